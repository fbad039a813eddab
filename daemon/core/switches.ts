import type { Config } from "./config.ts";

/** The environment variables that decide over the configuration's switches (B7). */
export const SWITCHES = {
  network: "BOUNDARY_NETWORK_ENFORCE",
  usb: "BOUNDARY_USB_ENFORCE",
  process: "BOUNDARY_PROCESS_ENFORCE",
} as const;

export type SwitchSettings = { readonly network: boolean; readonly usb: boolean; readonly process: boolean };

/** Reads the switches. A value that is neither yes nor no is an error, not a guess. */
export function readSwitches(
  config: Config["enforcement"],
  environment: Readonly<Record<string, string | undefined>>,
): { readonly ok: true; readonly value: SwitchSettings } | { readonly ok: false; readonly problem: string } {
  const read = (name: keyof SwitchSettings): boolean | null => {
    const text = environment[SWITCHES[name]];
    if (text === undefined || text === "") return config[name];
    if (["1", "true", "yes", "on"].includes(text.toLowerCase())) return true;
    return ["0", "false", "no", "off"].includes(text.toLowerCase()) ? false : null;
  };
  const network = read("network");
  const usb = read("usb");
  const processes = read("process");
  if (network === null || usb === null || processes === null) {
    return { ok: false, problem: `${Object.values(SWITCHES).join(", ")}: give 1 or 0` };
  }
  return { ok: true, value: { network, usb, process: processes } };
}

/** What stands between a switch and the kernel. Switch and consent are the owner's to give; the rest is a fault. */
export type Obstacle = {
  readonly kind: "switch" | "privilege" | "consent" | "nftables";
  /** For a person to read. */
  readonly what: string;
};

/** All that stand in the way; empty when nothing does. */
export function networkObstacles(facts: {
  readonly switchedOn: boolean;
  readonly missingPrivilege: readonly string[];
  readonly inInitNetns: boolean | "unknown";
  readonly allowInitNetns: boolean;
  readonly firewall: string | null;
}): readonly Obstacle[] {
  const obstacles: Obstacle[] = facts.missingPrivilege.map((name) => ({
    kind: "privilege",
    what: `the privilege ${name}`,
  }));
  if (!facts.switchedOn)
    obstacles.unshift({
      kind: "switch",
      what: `the switch (${SWITCHES.network}=1 or enforcement.network)`,
    });
  if (facts.inInitNetns !== false && !facts.allowInitNetns)
    obstacles.push({
      kind: "consent",
      what: "the consent to enforce in the host's own network namespace (enforcement.allowInitNetns)",
    });
  if (facts.firewall !== null) obstacles.push({ kind: "nftables", what: `nftables (${facts.firewall})` });
  return obstacles;
}

/** The same for USB. */
export function usbObstacles(facts: {
  readonly switchedOn: boolean;
  readonly missingPrivilege: readonly string[];
}): readonly Obstacle[] {
  const obstacles: Obstacle[] = facts.missingPrivilege.map((what) => ({ kind: "privilege", what }));
  if (!facts.switchedOn)
    obstacles.unshift({ kind: "switch", what: `the switch (${SWITCHES.usb}=1 or enforcement.usb)` });
  return obstacles;
}

/** What keeps a host open that its owner wants closed: nothing, or a fault that somebody has to be told of. */
export function faultsOf(obstacles: readonly Obstacle[]): readonly Obstacle[] {
  if (obstacles.some(({ kind }) => kind === "switch")) return [];
  return obstacles.filter(({ kind }) => kind === "privilege" || kind === "nftables");
}

/**
 * What a start that succeeded remembers of enforcement, for a later one that cannot read its configuration: "keep" it
 * while it is on; "forget" it once the owner has switched it off or taken the consent back; "leave" it as it was when
 * only the means are missing.
 */
export function markAfterStart(obstacles: readonly Obstacle[]): "keep" | "forget" | "leave" {
  if (obstacles.length === 0) return "keep";
  return obstacles.some(({ kind }) => kind === "switch" || kind === "consent") ? "forget" : "leave";
}
