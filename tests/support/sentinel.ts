import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DaemonHome, DaemonProcess } from "./daemon-process.ts";

/** A secret that is not known by its form, and every form it might be found in. */
export function sentinel() {
  const text = `zq ${randomBytes(12).toString("hex")} qz`;
  const bytes = Buffer.from(text);
  const base64 = bytes.toString("base64").slice(0, -4);
  return { text, forms: [text, bytes.toString("hex"), base64, text.slice(3, -3)] };
}

/** Everything that is kept, said or shown to others: files, journal, command lines, environments. */
export function places(
  home: Pick<DaemonHome, "path">,
  daemon: Pick<DaemonProcess, "lines">,
  said: readonly string[],
): ReadonlyMap<string, string> {
  const files = readdirSync(home.path, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name));
  const found = new Map(files.map((path) => [path, readFileSync(path, "latin1")]));
  found.set("the daemon's journal", daemon.lines.join("\n"));
  found.set("the tool's output", said.join("\n"));
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    // of the processes of this host, those that may know a secret; the test's own has it
    if (pid === String(process.pid)) continue;
    for (const part of ["cmdline", "environ"]) found.set(`/proc/${pid}/${part}`, ofProcess(pid, part));
  }
  return found;
}

/** What a process shows of itself; "" where it is gone meanwhile, or not ours to read. */
export function ofProcess(pid: string, part: string): string {
  try {
    return readFileSync(`/proc/${pid}/${part}`, "latin1");
  } catch {
    return "";
  }
}

/** The places where any of the forms stands. */
export function where(all: ReadonlyMap<string, string>, forms: readonly string[]): readonly string[] {
  return [...all].filter(([, text]) => forms.some((form) => text.includes(form))).map(([place]) => place);
}
