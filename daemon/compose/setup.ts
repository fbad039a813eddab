import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createSurroundings } from "../adapters/surroundings.ts";
import { parseAccounts, resolveRoles } from "../core/accounts.ts";
import type { Config } from "../core/config.ts";
import { parseConfig, parseTripwires, placeProblems, renderProblems } from "../core/config-parse.ts";
import { BoundaryError } from "../core/errors.ts";
import type { SelfPath } from "../core/fingerprint.ts";
import { cgroupsOf } from "../core/surroundings.ts";
import { readSwitches, type SwitchSettings } from "../core/switches.ts";
import type { Tripwire } from "../core/tripwire.ts";
import type { UsbRule } from "../core/usb-rule.ts";
import { parseUsbRules } from "../core/usb-rule-parse.ts";
import { listFaults } from "../egress/settings.ts";
import type { ExecProfiles } from "../exec/profile.ts";
import type { Options } from "../options.ts";
import { PARAMS } from "../protocol/messages.ts";
import { readProfiles, readShippedProfiles } from "./exec.ts";
import { opLog } from "./journal.ts";

export type Setup = {
  readonly options: Options;
  readonly config: Config;
  readonly tripwires: readonly Tripwire[];
  /** Of the configuration; the permanent ones come before them. */
  readonly usbRules: readonly UsbRule[];
  readonly switches: SwitchSettings;
  /** null: nobody needs them, since no workspace is configured. The shipped ones take some 200 ms to read. */
  readonly execProfiles: ExecProfiles | null;
  readonly digest: string;
};

/**
 * What a change of would change us: a difference here is `self.changed`. Not the packages in node_modules: thousands
 * of files, which would make a start wait for their hashes. A build has most of them within its own. SECURITY.md says so.
 */
export function ownFiles({ options, config }: Setup): readonly SelfPath[] {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  return [
    { path: options.configFile, part: "config" },
    ...(config.tripwiresFile ? [{ path: config.tripwiresFile, part: "config" } as const] : []),
    ...(config.usb.rulesFile ? [{ path: config.usb.rulesFile, part: "config" } as const] : []),
    ...(config.exec.profilesFile ? [{ path: config.exec.profilesFile, part: "config" } as const] : []),
    { path: `${options.stateDir}/log.vkey`, part: "key" },
    { path: `${root}daemon/`, part: "program" },
    { path: `${root}cli/`, part: "program" },
    { path: `${root}policies/`, part: "program" },
    { path: `${root}package.json`, part: "program" },
    { path: process.execPath, part: "program" },
  ];
}

export function readRoles(config: Config): {
  table: ReturnType<typeof resolveRoles>["table"];
  group: number | null;
} {
  const users = parseAccounts(readFileSync("/etc/passwd", "utf8"));
  const groups = parseAccounts(readFileSync("/etc/group", "utf8"));
  const { table, unknown, socketGroup } = resolveRoles(config, users, groups);
  for (const name of unknown)
    opLog.warn({ name }, "the configuration gives a role to somebody who does not exist here");
  return { table, group: socketGroup };
}

export function readSetup(options: Options): Setup {
  const text = readConfigText(options);
  const config = parseConfig(text);
  if (!config.ok)
    throw new BoundaryError("config-invalid", renderProblems(options.configFile, config.problems));
  const unread = placeProblems(text, listFaults(config.value.egress));
  if (unread.length > 0)
    throw new BoundaryError("config-invalid", renderProblems(options.configFile, unread));
  const noVerb = Object.keys(config.value.limits.verbs).find((verb) => !Object.hasOwn(PARAMS, verb));
  if (noVerb !== undefined)
    throw new BoundaryError("config-invalid", `limits.verbs: there is no verb ${JSON.stringify(noVerb)}`);
  const tripwiresFile =
    config.value.tripwiresFile ?? fileURLToPath(new URL("../../policies/tripwires.yaml", import.meta.url));
  const tripwiresText = readText(tripwiresFile);
  const tripwires = parseTripwires(tripwiresText);
  if (!tripwires.ok)
    throw new BoundaryError("config-invalid", renderProblems(tripwiresFile, tripwires.problems));
  const switches = readSwitches(config.value.enforcement, process.env);
  if (!switches.ok) throw new BoundaryError("config-invalid", switches.problem);
  if (
    switches.value.network &&
    cgroupsOf(config.value.network.deny).length > 0 &&
    !createSurroundings().hasCgroups()
  ) {
    const why =
      "network.deny names a cgroup, and cgroup v2 is not at /sys/fs/cgroup: nothing would be denied";
    throw new BoundaryError("config-invalid", why);
  }
  const usbFile =
    config.value.usb.rulesFile ?? fileURLToPath(new URL("../../policies/usb.rules", import.meta.url));
  const usbText = readText(usbFile);
  const usbRules = readUsbRules(usbFile, usbText);
  const exec = readExec(config.value.exec);
  const texts = [text, tripwiresText, usbText, ...(exec.text === null ? [] : [exec.text])];
  const digest = createHash("sha256").update(texts.join("\0")).digest("hex");
  return {
    options,
    config: config.value,
    tripwires: tripwires.value,
    usbRules,
    switches: switches.value,
    execProfiles: exec.profiles,
    digest,
  };
}

/** The configured profiles: a start with a fault in them is none, nor is one with a hook by a profile that is not there. */
function readExec({ profilesFile, hookProfile, workspaces }: Config["exec"]): {
  readonly text: string | null;
  readonly profiles: ExecProfiles | null;
} {
  const text = profilesFile === undefined ? null : readText(profilesFile);
  // not when they are first asked for: the loop would stand still for as long as it takes
  const isNeeded = text !== null || hookProfile !== undefined || workspaces.length > 0;
  const read = text === null ? readShippedProfiles : () => readProfiles(profilesFile ?? "", text);
  const profiles = isNeeded ? read() : null;
  if (hookProfile !== undefined && profiles?.has(hookProfile) !== true)
    throw new BoundaryError("config-invalid", `exec.hookProfile: there is no profile "${hookProfile}"`);
  return { text, profiles };
}

function readUsbRules(file: string, text: string): readonly UsbRule[] {
  const parsed = parseUsbRules(text);
  if (parsed.ok) return parsed.rules;
  const problems = parsed.problems.map(({ line, column, message, hint }) => ({
    line,
    column,
    at: "",
    problem: hint === "" ? message : `${message}: ${hint}`,
  }));
  throw new BoundaryError("config-invalid", renderProblems(file, problems));
}

/** An absent file is the default configuration, unless it was named; one that cannot be read is an error always. */
function readConfigText(options: Options): string {
  try {
    return readText(options.configFile);
  } catch (error) {
    const cause = error instanceof BoundaryError ? error.cause : error;
    if (!options.configNamed && (cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return "";
    throw error;
  }
}

function readText(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (cause) {
    throw new BoundaryError("config-unreadable", `reading ${file}`, { cause });
  }
}
