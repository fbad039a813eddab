import { type Mode, rank } from "./mode.ts";

/** How sensitive a memory is, least first. A class's place in this list is its rank (B14). */
export const MEMORY_CLASSES = [
  "PUBLIC",
  "INTERNAL",
  "CONFIDENTIAL",
  "SECRET",
  "TOP_SECRET",
  "CROWN_JEWEL",
] as const;

export type MemoryClass = (typeof MEMORY_CLASSES)[number];

/** What a mode allows, as data: the rows of DESIGN section 2's table. Whoever decides or enforces reads it from here. */
export type Posture = {
  readonly mode: Mode;
  /** In, out and forward, IPv4 and IPv6. */
  readonly network: "as-host" | "minus-denied" | "trusted-only" | "loopback" | "nothing";
  readonly usb:
    | "by-rules"
    | "storage-by-ceremony"
    | "no-storage"
    | "no-storage-input-by-rule"
    | "present-input-only"
    | "nothing-new";
  /** The most sensitive class that may be recalled; null for none. */
  readonly memory: MemoryClass | null;
  readonly networkTools: "yes" | "over-trusted-interfaces" | "no";
  readonly fileTools: "yes" | "no";
  readonly externalModels: "yes" | "over-trusted-interfaces" | "no";
  readonly secrets: "by-policy" | "sealed" | "keys-dropped";
  readonly exec: "by-policy" | "without-network" | "no" | "running-ended";
  readonly leases: "live" | "those-that-allow-the-mode" | "suspended";
};

const POSTURES: { readonly [M in Mode]: Posture } = {
  OPEN: {
    mode: "OPEN",
    network: "as-host",
    usb: "by-rules",
    memory: "INTERNAL",
    networkTools: "yes",
    fileTools: "yes",
    externalModels: "yes",
    secrets: "by-policy",
    exec: "by-policy",
    leases: "live",
  },
  RESTRICTED: {
    mode: "RESTRICTED",
    network: "minus-denied",
    usb: "storage-by-ceremony",
    memory: "CONFIDENTIAL",
    networkTools: "yes",
    fileTools: "yes",
    externalModels: "yes",
    secrets: "by-policy",
    exec: "by-policy",
    leases: "those-that-allow-the-mode",
  },
  TRUSTED: {
    mode: "TRUSTED",
    network: "trusted-only",
    usb: "no-storage",
    memory: "SECRET",
    networkTools: "over-trusted-interfaces",
    fileTools: "yes",
    externalModels: "over-trusted-interfaces",
    secrets: "by-policy",
    exec: "without-network",
    leases: "those-that-allow-the-mode",
  },
  AIRGAP: {
    mode: "AIRGAP",
    network: "loopback",
    usb: "no-storage-input-by-rule",
    memory: "TOP_SECRET",
    networkTools: "no",
    fileTools: "yes",
    externalModels: "no",
    secrets: "by-policy",
    exec: "without-network",
    leases: "those-that-allow-the-mode",
  },
  COLDROOM: {
    mode: "COLDROOM",
    network: "loopback",
    usb: "present-input-only",
    memory: "CROWN_JEWEL",
    networkTools: "no",
    fileTools: "no",
    externalModels: "no",
    secrets: "sealed",
    exec: "no",
    leases: "those-that-allow-the-mode",
  },
  LOCKDOWN: {
    mode: "LOCKDOWN",
    network: "nothing",
    usb: "nothing-new",
    memory: null,
    networkTools: "no",
    fileTools: "no",
    externalModels: "no",
    secrets: "keys-dropped",
    exec: "running-ended",
    leases: "suspended",
  },
};

export function posture(mode: Mode): Posture {
  return POSTURES[mode];
}

/** The loosest mode that isolates enough for a class (B14). LOCKDOWN, though stricter, allows none. */
export function leastModeOf(wanted: MemoryClass): Exclude<Mode, "LOCKDOWN"> {
  switch (wanted) {
    case "PUBLIC":
    case "INTERNAL":
      return "OPEN";
    case "CONFIDENTIAL":
      return "RESTRICTED";
    case "SECRET":
      return "TRUSTED";
    case "TOP_SECRET":
      return "AIRGAP";
    case "CROWN_JEWEL":
      return "COLDROOM";
  }
}

/** Whether a class may be recalled in a mode. */
export function recallable(wanted: MemoryClass, mode: Mode): boolean {
  return mode !== "LOCKDOWN" && rank(mode) >= rank(leastModeOf(wanted));
}
