import { lstatSync, type Stats } from "node:fs";
import { join } from "node:path";
import { emptyFold } from "../daemon/audit/fold.ts";
import type { Verdict } from "../daemon/audit/verdict.ts";
import { baselineDigest, type FileState } from "../daemon/core/fingerprint.ts";
import { directoryFault, fileFault, type Look } from "../daemon/core/ownership.ts";
import type { Status } from "../daemon/protocol/messages.ts";
import { readSmallFile } from "./read-file.ts";

/**
 * One thing that was looked at. "unknown": it could not be; that is no success. "off": nobody asked for it here (a
 * daemon that only watches), which `status` says too.
 */
export type Check = {
  readonly name: string;
  readonly state: "ok" | "bad" | "unknown" | "off";
  readonly detail: string;
};

const MAX_BASELINE_BYTES = 64 * 1024 * 1024;

export function checkLog(verdict: Verdict, headKnown: boolean): readonly Check[] {
  const log: Check =
    verdict.bad === null
      ? check(
          "log",
          verdict.verdict === "sound" ? "ok" : "bad",
          `${verdict.verdict}, ${verdict.records} records`,
        )
      : check("log", "bad", `${verdict.bad.what} (${verdict.bad.code}, record ${verdict.bad.seq})`);
  const head: Check = headKnown
    ? check("head", log.state, "the log reaches the remembered head, or the line above says why not")
    : check("head", "unknown", "no head is remembered: a tail that was cut off would not be noticed");
  return [log, head];
}

/** Owner and permissions of what nobody else may write. The daemon's user is the one who owns the log's directory. */
export function checkPermissions(
  directories: Readonly<Record<"log" | "state", string>>,
  files: readonly string[],
): readonly Check[] {
  const owner = lookAt(directories.log)?.uid ?? -1;
  const directory = (what: "log" | "state") =>
    judge(`${what} directory`, directories[what], (look) => directoryFault(look, owner));
  const secret = (path: string) => judge(path, path, (look) => fileFault(look, owner, "secret"));
  const state = ["log.key", "log.vkey", "log.head"].map((name) => join(directories.state, name));
  const segments = files.map((name) => join(directories.log, name));
  const faults = [...segments, ...state].map(secret).filter((each) => each.state !== "ok");
  const rest = check("files", "ok", `${segments.length + state.length} files are ours alone`);
  return [directory("log"), directory("state"), ...(faults.length === 0 ? [rest] : faults)];
}

function judge(name: string, path: string, fault: (look: Look) => string | null): Check {
  const look = lookAt(path);
  if (look === null) return check(name, "unknown", `${path} is not there, or cannot be looked at`);
  const why = fault(look);
  return why === null ? check(name, "ok", path) : check(name, "bad", `${path} ${why}`);
}

/** The accepted states of the watched files have to be those whose digest the log signed. */
export function checkBaseline(stateDir: string, verdict: Verdict): Check {
  const signed = (verdict.trustworthyUpTo?.tail.fold ?? emptyFold()).baselineDigest;
  if (signed === "") return check("baseline", "unknown", "the log has signed none");
  try {
    const bytes = readSmallFile(join(stateDir, "baseline.json"), MAX_BASELINE_BYTES);
    if (bytes === null) return check("baseline", "bad", "the log has signed one, and the file is missing");
    const states = JSON.parse(bytes.toString("utf8")) as readonly FileState[];
    return baselineDigest(states) === signed
      ? check("baseline", "ok", `${states.length} files, as the log signed them`)
      : check("baseline", "bad", "the file is not the one that the log signed");
  } catch (error) {
    return check("baseline", "bad", `cannot be read: ${error instanceof Error ? error.message : "unknown"}`);
  }
}

/** What only the running daemon knows: the kernel's rules, its sensors, what has changed meanwhile. */
export function checkLive(status: Status | null): readonly Check[] {
  if (status === null)
    return [check("daemon", "unknown", "not running: rules and sensors were not looked at")];
  const rules = status.controls.find(({ name }) => name === "network");
  const held = status.controls.find(({ name }) => name === "append-only");
  const blind = status.sensors.filter(({ state }) => state === "blind").map(({ name }) => name);
  return [
    check("rules", STATES[rules?.state ?? "absent"], `${rules?.state ?? "absent"}: ${rules?.detail ?? ""}`),
    check("append-only", STATES[held?.state ?? "absent"], held?.detail ?? "the daemon does not say"),
    check(
      "sensors",
      blind.length === 0 ? "ok" : "bad",
      blind.length === 0 ? "none is blind" : `blind: ${blind.join(", ")}`,
    ),
    status.changedFiles.length === 0
      ? check("watched files", "ok", "as accepted")
      : check("watched files", "bad", `changed: ${status.changedFiles.slice(0, 5).join(", ")}`),
  ];
}

const STATES = { enforced: "ok", observed: "off", absent: "unknown", failed: "bad" } as const;

function check(name: string, state: Check["state"], detail: string): Check {
  return { name, state, detail };
}

function lookAt(path: string): Look | null {
  let stat: Stats | undefined;
  try {
    stat = lstatSync(path, { throwIfNoEntry: false });
  } catch {
    return null;
  }
  if (!stat) return null;
  const kind = stat.isFile()
    ? "file"
    : stat.isDirectory()
      ? "directory"
      : stat.isSymbolicLink()
        ? "symlink"
        : "other";
  return { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
}
