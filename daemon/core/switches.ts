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

/** What stands between the network switch and the kernel; empty when nothing does. */
export function networkObstacles(facts: {
  readonly switchedOn: boolean;
  readonly missingPrivilege: readonly string[];
  readonly inInitNetns: boolean | "unknown";
  readonly allowInitNetns: boolean;
  readonly firewall: string | null;
}): readonly string[] {
  return [
    ...(facts.switchedOn ? [] : [`the switch (${SWITCHES.network}=1 or enforcement.network)`]),
    ...facts.missingPrivilege.map((name) => `the privilege ${name}`),
    ...(facts.inInitNetns === false || facts.allowInitNetns
      ? []
      : ["the consent to enforce in the host's own network namespace (enforcement.allowInitNetns)"]),
    ...(facts.firewall === null ? [] : [`nftables (${facts.firewall})`]),
  ];
}
