import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { renderCeremony } from "../../cli/commands/ceremony.ts";
import { renderCompletion } from "../../cli/commands/completion.ts";
import { ROWS } from "../../cli/commands.ts";
import { parseDuration } from "../../cli/duration.ts";
import { renderEvent } from "../../cli/event-text.ts";
import { examine } from "../../cli/examine.ts";
import { parseHeadLine } from "../../cli/head.ts";
import type { HostFacts } from "../../cli/host-facts.ts";
import { describeChange, describeMode } from "../../cli/mode-text.ts";
import { isOnHost } from "../support/setup.ts";

describe("durations", () => {
  test.each([
    ["1s", 1_000],
    ["90s", 90_000],
    ["10m", 600_000],
    ["24h", 86_400_000],
  ])("%s", (text, ms) => expect(parseDuration(text)).toBe(ms));

  test.each(["", "0s", "10", "m", "-1m", "1.5h", "25h", "1d", "10 m", "1e3s", "٣s"])("%j is none", (text) =>
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: "argument-invalid" })),
  );
});

describe("what is said of a mode", () => {
  const rows = [
    ["enforced", "AIRGAP", true],
    ["enforced", "OPEN", false],
    ["enforced", null, false],
    ["observed", "AIRGAP", false],
    ["failed", "OPEN", false],
    ["failed", null, false],
  ] as const;
  test.each(rows)(
    "%s with %s applied: in force is said only when it is (%s)",
    (assurance, applied, inForce) => {
      const text = describeMode({ wanted: "AIRGAP", applied, assurance, behind: null }).join("\n");
      expect(text.includes("is in force")).toBe(inForce);
    },
  );
});

describe('what "observed" means', () => {
  const control = (state: "enforced" | "observed") => ({
    name: "network",
    state,
    detail: "",
    checkedAt: "",
    testedAt: "",
  });
  const files = { name: "files", state: "blind", why: "no inotify" } as const;
  const usb = { name: "usb", state: "absent", why: "no bus" } as const;
  const mode = { wanted: "AIRGAP", applied: "AIRGAP", assurance: "observed" } as const;

  test("with the kernel holding the network, that is said, and who is blind", () => {
    const behind = { controls: [control("enforced")], sensors: [files, usb] };
    const text = describeMode({ ...mode, behind }).join("\n");
    expect(text).toContain("the kernel holds the network rules");
    expect(text).toContain("(blind: files)");
    expect(text).not.toContain("nothing in the kernel");
  });

  test("without it, that nothing in the kernel holds the mode", () => {
    const behind = { controls: [control("observed")], sensors: [files] };
    expect(describeMode({ ...mode, behind }).join("\n")).toContain("nothing in the kernel holds it");
  });

  test("with all but something held, that it is held, and what is not", () => {
    const without = { ...control("observed"), detail: "enforced, without: ARP, which stays open" };
    const text = describeMode({ ...mode, behind: { controls: [without], sensors: [] } }).join("\n");
    expect(text).toContain("the kernel holds AIRGAP, but not all of it: enforced, without: ARP");
    expect(text).not.toContain("nothing in the kernel");
  });

  test("a reply without controls says nothing of the kernel", () => {
    expect(describeChange({ ...mode, changed: true, seq: 9 }).join("\n")).not.toContain("kernel");
  });
});

describe("heads", () => {
  const hex = "ab".repeat(32);
  const base64 = Buffer.from(hex, "hex").toString("base64");
  test.each([
    [`12 ${hex}`, { size: 12, root: hex }],
    [`12 ${hex.toUpperCase()}\n`, { size: 12, root: hex }],
    [`  12\t${base64}`, { size: 12, root: hex }],
    ["12", null],
    [`-1 ${hex}`, null],
    [`12 ${hex}00`, null],
    [`12 ${hex} more`, null],
  ])("%j", (text, head) => expect(parseHeadLine(text)).toEqual(head));
});

const KERNEL_CONFIG = ["NF_TABLES", "NF_TABLES_INET", "NF_TABLES_ARP", "NF_TABLES_NETDEV"]
  .concat("NETFILTER_INGRESS", "NETFILTER_EGRESS")
  .map((option) => `CONFIG_${option}=y\n`)
  .join("");

const at = (path: string, mode: number): HostFacts["directories"] => ({
  log: { path, fact: { kind: "directory", uid: 0, mode } },
});

describe("doctor", () => {
  const good: HostFacts = {
    nodeVersion: "v24.21.0",
    uid: 0,
    nftProgram: "/usr/sbin/nft",
    nftLibrary: "/usr/lib/libnftables.so.1",
    capabilities: 1n << 12n,
    serviceUnit: null,
    netns: "own",
    kernelConfig: KERNEL_CONFIG,
    usbBus: true,
    inotifyWatches: 100_000,
    inotifyInstances: 128,
    systemd: true,
    clocksource: "tsc",
    groups: ["root", "boundary"],
    directories: {
      runtime: { path: "/run/b", fact: { kind: "directory", uid: 0, mode: 0o755 } },
      log: { path: "/log", fact: { kind: "missing" } },
    },
  };
  test("a kernel without a hook for what leaves a link is told what passes, and that it is not enforced", () => {
    const kernelConfig = KERNEL_CONFIG.replace("CONFIG_NETFILTER_EGRESS=y", "");
    const finding = examine({ ...good, kernelConfig }).find(({ name }) => name === "kernel tables");
    expect(finding).toMatchObject({
      state: "hint",
      detail: expect.stringMatching(/EGRESS.*raw frames pass/),
    });
    expect(finding?.hint).toContain("observed here, not enforced");
  });

  const rows: readonly [name: string, change: Partial<HostFacts>, missing: readonly string[]][] = [
    ["all is there", {}, []],
    ["an older Node", { nodeVersion: "v24.20.9" }, ["node"]],
    ["a newer Node", { nodeVersion: "v26.0.0" }, []],
    ["only the nft program", { nftLibrary: null }, []],
    ["neither nft nor the library", { nftLibrary: null, nftProgram: null }, ["nftables"]],
    ["a kernel without nf_tables", { kernelConfig: "# CONFIG_NF_TABLES is not set\n" }, ["kernel tables"]],
    ["a kernel that does not say", { kernelConfig: null }, []],
    ["no capability", { capabilities: 0n }, ["CAP_NET_ADMIN"]],
    ["no capability, but a service", { capabilities: 0n, serviceUnit: "/etc/systemd/system/x" }, []],
    ["capabilities unknown", { capabilities: null }, ["CAP_NET_ADMIN"]],
    ["the host's own network namespace", { netns: "init" }, []],
    ["no USB", { usbBus: false }, []],
    ["no inotify", { inotifyWatches: null }, ["inotify"]],
    ["no systemd, group or clock source", { systemd: false, groups: [], clocksource: null }, []],
    ["a log that others may write to", { directories: at("/log", 0o777) }, ["log directory"]],
    [
      "a link in a directory's place",
      { directories: { log: { path: "/log", fact: { kind: "other" } } } },
      ["log directory"],
    ],
  ];
  test.each(rows)("%s", (_name, change, missing) => {
    const findings = examine({ ...good, ...change });
    expect(findings.filter(({ state }) => state === "missing").map(({ name }) => name)).toEqual(missing);
    expect(findings.filter(({ state, hint }) => state === "missing" && hint === "")).toEqual([]);
  });
});

test("an event is one line, whatever its facts hold", () => {
  const data = { path: "/etc/a\nfake #9", n: 3, list: ["x"], why: "two words", "k\u001b": "v" };
  expect(
    renderEvent({ seq: 7, at: "2026-01-01T00:00:00.000Z", mono: "1", kind: "tripwire.fired", data }),
  ).toBe(
    '2026-01-01T00:00:00.000Z  #7  tripwire.fired  path="/etc/a\\nfake #9"  n=3  list=["x"]  why="two words"  k\\u001b=v',
  );
});

test("a ceremony shows the changes and how to accept them", () => {
  const ceremony = {
    id: "c1",
    code: "123-456",
    coolDownMs: 30_000,
    lifeMs: 600_000,
    people: 2,
    changes: ["/etc/x differs"],
    moreChanges: 7,
  };
  const text = renderCeremony(ceremony).join("\n");
  for (const part of ["123-456 --accept-changes", "/etc/x differs", "and 7 more", "30 s", "another person"])
    expect(text).toContain(part);
});

test("every command is in the completion script, with its children", async () => {
  const commands = await Promise.all(ROWS.map(async (row) => (await row.load()).command));
  const script = renderCompletion(commands);
  for (const word of [
    "verify-log",
    "begin confirm cancel",
    "head prove check-proof witness",
    "get set confirm",
    "LOCKDOWN",
  ])
    expect(script).toContain(word);
});

test.skipIf(!isOnHost("bash"))("bash completes commands, their children and their options", async () => {
  const commands = await Promise.all(ROWS.map(async (row) => (await row.load()).command));
  const script = renderCompletion(commands);
  const complete = (...words: readonly string[]) => {
    const set = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}`;
    const ran = spawnSync("bash", ["-c", `${script}\n${set}; _boundaryctl; echo "\${COMPREPLY[*]}"`], {
      encoding: "utf8",
    });
    expect(ran.stderr).toBe("");
    return ran.stdout.trim();
  };
  expect(complete("boundaryctl", "verify-l")).toBe("verify-log");
  expect(complete("boundaryctl", "verify-log", "--w")).toBe("--witness");
  expect(complete("boundaryctl", "verify-log", "dir", "--fr")).toBe("--from");
  expect(complete("boundaryctl", "log", "p")).toBe("prove prune");
  expect(complete("boundaryctl", "log", "ship", "--c")).toBe("--cursor --ca --cert --confirm-seconds");
  expect(complete("boundaryctl", "log", "prune", "--keep-days", "90", "--j")).toBe("--json");
  expect(complete("boundaryctl", "log", "prune", "--k")).toBe("--keep-days");
  expect(complete("boundaryctl", "status", "--c")).toBe("");
  expect(complete("boundaryctl", "mode", "set", "AIRGAP", "--c")).toBe("--confirm");
  expect(complete("boundaryctl", "release", "")).toBe("begin confirm cancel");
  expect(complete("boundaryctl", "enforce", "--d")).toBe("--dry-run");
  expect(complete("boundaryctl", "mode", "set", "LOCK")).toBe("LOCKDOWN");
});

test("a row of the help and its module say the same word", async () => {
  for (const row of ROWS) expect((await row.load()).command.usage.split(" ")[0]).toBe(row.word);
});
