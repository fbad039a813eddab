import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterEach, expect, test } from "vitest";
import { netPrivilege } from "../../daemon/adapters/privilege.ts";

const made: string[] = [];
afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});

type Proc = {
  readonly capEff?: string;
  readonly self?: string;
  readonly first?: string;
  readonly settings?: readonly string[];
};

function procWith({ capEff, self, first, settings }: Proc): string {
  const proc = mkdtempSync(`${tmpdir()}/proc-`);
  made.push(proc);
  for (const path of ["self/ns", "1/ns", "sys/net/core"]) mkdirSync(`${proc}/${path}`, { recursive: true });
  if (capEff !== undefined)
    writeFileSync(`${proc}/self/status`, `Name:\tnode\nCapEff:\t${capEff}\nCapBnd:\t0\n`);
  if (self !== undefined) symlinkSync(self, `${proc}/self/ns/net`);
  if (first !== undefined) symlinkSync(first, `${proc}/1/ns/net`);
  for (const name of settings ?? []) writeFileSync(`${proc}/sys/net/core/${name}`, "");
  return proc;
}

test.each([
  ["all capabilities", "000001ffffffffff", true],
  ["CAP_NET_ADMIN alone", "0000000000001000", true],
  ["all but CAP_NET_ADMIN", "000001ffffffefff", false],
  ["none", "0000000000000000", false],
  ["something unreadable", "zz", false],
  ["no status file", undefined, false],
])("with %s", (_, capEff, canEnforce) => {
  const privilege = netPrivilege(procWith(capEff === undefined ? {} : { capEff }));
  expect(privilege.canEnforce).toBe(canEnforce);
  expect(privilege.missing).toHaveLength(canEnforce ? 0 : 1);
});

const [A, B] = ["net:[4026531840]", "net:[4026532000]"];
test.each<[string, Proc, boolean | "unknown"]>([
  ["the namespace of pid 1", { self: A, first: A }, true],
  ["another than pid 1's", { self: A, first: B }, false],
  ["pid 1 hidden, settings of the first", { self: A, settings: ["somaxconn", "netdev_max_backlog"] }, true],
  ["pid 1 hidden, settings of a later one", { self: A, settings: ["somaxconn"] }, false],
  ["pid 1 hidden, no settings to see", { self: A }, "unknown"],
  ["no procfs", {}, "unknown"],
])("the initial namespace is told from others: %s", (_, proc, expected) => {
  expect(netPrivilege(procWith(proc)).inInitNetns).toBe(expected);
});
