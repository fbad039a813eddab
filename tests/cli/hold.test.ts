import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { renderProposal } from "../../cli/network-proposal.ts";
import { defaultLinks } from "../../cli/own-network.ts";
import { sshSession } from "../../cli/ssh-session.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { parseConfig } from "../../daemon/core/config-parse.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const noScript = spawnSync("script", ["--version"]).status !== 0;
const REPLY = { wanted: "AIRGAP", applied: "AIRGAP", assurance: "enforced", changed: true, seq: 9 };
const LOOK = {
  mode: "AIRGAP",
  wanted: "OPEN",
  hold: "enforcing",
  session: { what: "tcp 10.0.0.1:22 with 10.0.0.9:50000", verdict: "cut", rule: "mode AIRGAP" },
  flows: { shown: [{ what: "tcp a with \u001bb", verdict: "cut", rule: "mode AIRGAP" }], cut: 3, kept: 1 },
  listeners: { shown: [], cut: 0, kept: 0 },
  usb: { shown: [{ port: "1-1", name: "keyboard", verdict: "kept" }], more: 0 },
  leases: { shown: ["ab12 deploy\u001b (uid 1)"], more: 2 },
  unread: 0,
};
const CEREMONY = {
  id: "c1",
  code: "123-456",
  coolDownMs: 1_000,
  lifeMs: 60_000,
  people: 2,
  changes: [],
  moreChanges: 0,
};

let daemon: FakeDaemon | undefined;
afterEach(() => daemon?.stop());

async function run(argv: readonly string[], over: Parameters<typeof fakeDaemon>[0] = {}, env = {}) {
  daemon = await fakeDaemon({
    "mode.set": { data: REPLY },
    "mode.confirm": { data: REPLY },
    "mode.preflight": { data: LOOK },
    "enforcement.enforce": { data: REPLY },
    "enforcement.shadow": {
      data: {
        hold: "shadow",
        blocked: [{ direction: "out", address: "192.0.2.1", protocol: "tcp", port: 443 }],
        more: 2,
        notes: ["full (out, IPv4): nothing new"],
      },
    },
    "ceremony.begin": { data: CEREMONY },
    "ceremony.confirm": { data: { ...REPLY, assurance: "observed" } },
    "ceremony.cancel": { data: {} },
    ...over,
  });
  const ran = await boundaryctl([...argv, "--runtime-dir", daemon.runtimeDir], env);
  return { ...ran, asked: daemon.requests.map(({ verb, params }) => ({ verb, params })) };
}

const SSH = { SSH_CONNECTION: "10.0.0.9 50000 10.0.0.1 22" };
const CLAIM = { localAddress: "10.0.0.1", localPort: 22, remoteAddress: "10.0.0.9", remotePort: 50_000 };

describe("mode set", () => {
  test("--confirm tells the daemon how long, and the person what to type; 0", async () => {
    const ran = await run(["mode", "set", "airgap", "--reason", "r", "--confirm", "60"]);
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.asked).toEqual([
      { verb: "mode.set", params: { mode: "AIRGAP", reason: "r", confirmForMs: 60_000 } },
    ]);
    expect(ran.stdout).toContain("to keep it, within 60 s: boundaryctl mode confirm");
  });

  test("what the daemon has to say beside it is shown, safe for a terminal", async () => {
    const notes = ["it will NOT go back\u001b by itself"];
    const ran = await run(["mode", "set", "airgap", "--reason", "r", "--confirm", "60"], {
      "mode.set": { data: { ...REPLY, notes } },
    });
    expect(ran.stdout).toContain("note       it will NOT go back");
    expect(ran.stdout).not.toContain("\u001b");
  });

  test.each([
    [["--confirm", "4"], /5 seconds to one hour/],
    [["--confirm", "2h"], /5 seconds to one hour/],
    [["--confirm", "soon"], /is no duration/],
    [["--confirm", "60", "--for", "10m"], /one of them/],
    [["--keep-session"], /no SSH session/],
  ])("%j is a usage error: 2, and nothing is asked", async (more, said) => {
    const ran = await run(["mode", "set", "airgap", "--reason", "r", ...more], {}, { SSH_CONNECTION: "" });
    expect(ran).toMatchObject({ code: 2, asked: [] });
    expect(ran.stderr).toMatch(said);
  });

  test("without a reason it is a usage error, but for --dry-run", async () => {
    expect(await run(["mode", "set", "airgap"])).toMatchObject({ code: 2, asked: [] });
    await daemon?.stop();
    const ran = await run(["mode", "set", "airgap", "--dry-run"], {}, SSH);
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.asked).toEqual([
      { verb: "mode.preflight", params: { mode: "AIRGAP", keep: false, session: CLAIM } },
    ]);
    for (const part of [
      "session    tcp 10.0.0.1:22",
      "3 cut, 1 kept",
      "… and 2 more",
      "keyboard: kept",
      "suspended: ab12 deploy\\u001b (uid 1), and 2 more",
    ])
      expect(ran.stdout).toContain(part);
    expect(ran.stdout).not.toContain("\u001b");
  });

  test("--keep-session passes the session on as a claim; what the host has not is refused: 1", async () => {
    const args = ["mode", "set", "airgap", "--reason", "r", "--keep-session"];
    const ran = await run(args, {}, SSH);
    expect(ran.asked).toEqual([{ verb: "mode.set", params: { mode: "AIRGAP", reason: "r", keep: CLAIM } }]);
    await daemon?.stop();
    const refused = await run(args, { "mode.set": { problem: problem("flow-unknown", "none") } }, SSH);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toContain("flow-unknown");
  });
});

describe("mode set --confirm on a terminal", () => {
  async function onTerminal(answer: string | null) {
    daemon = await fakeDaemon({
      "mode.set": { data: REPLY },
      "mode.preflight": { data: LOOK },
      "mode.confirm": { data: REPLY },
    });
    const line = `${process.execPath} ${MAIN} mode set airgap --reason x --confirm 5 --runtime-dir ${daemon.runtimeDir}`;
    const child = spawn("script", ["-qec", line, "/dev/null"], { stdio: ["pipe", "pipe", "ignore"] });
    let screen = "";
    let left = answer;
    child.stdout.on("data", (text: Buffer) => {
      screen += text.toString();
      if (left === null || !screen.includes("keep it?")) return;
      child.stdin.write(left);
      left = null;
    });
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, screen, verbs: daemon.requests.map(({ verb }) => verb) };
  }

  test.skipIf(noScript).each([
    ["y\r", 0, ["mode.preflight", "mode.set", "mode.confirm"]],
    ["\r", 1, ["mode.preflight", "mode.set"]],
    ["\u0003", 1, ["mode.preflight", "mode.set"]],
    [null, 1, ["mode.preflight", "mode.set"]],
  ])("answered %j it ends with %i (needs script)", async (answer, code, verbs) => {
    const ran = await onTerminal(answer);
    expect(ran).toMatchObject({ code, verbs });
    expect(ran.screen).toContain("AIRGAP would cut");
    expect(ran.screen).toContain(code === 0 ? "it stays" : "goes back by itself");
  });
});

describe("enforce, release", () => {
  test("enforce --dry-run lists what shadow would have refused, and changes nothing", async () => {
    const ran = await run(["enforce", "--dry-run"]);
    expect(ran.asked).toEqual([{ verb: "enforcement.shadow", params: {} }]);
    expect(ran.stdout).toContain("out 192.0.2.1 tcp 443");
    expect(ran.stdout).toContain("note: full (out, IPv4): nothing new");
    expect(ran.stdout).toContain("… and 2 more");
  });

  test("enforce takes a reason, and a time for confirming", async () => {
    expect(await run(["enforce"])).toMatchObject({ code: 2, asked: [] });
    await daemon?.stop();
    const ran = await run(["enforce", "--reason", "r", "--confirm", "120"]);
    expect(ran.asked).toEqual([
      { verb: "enforcement.enforce", params: { reason: "r", confirmForMs: 120_000 } },
    ]);
    expect(ran.stdout).toContain("within 120 s: boundaryctl mode confirm");
  });

  test.each([[["release", "--reason", "r"]], [["release", "begin", "--reason", "r"]]])(
    "%j begins a ceremony of that purpose",
    async (args) => {
      const ran = await run(args);
      expect(ran).toMatchObject({ code: 0 });
      expect(ran.asked).toEqual([{ verb: "ceremony.begin", params: { reason: "r", purpose: "release" } }]);
      expect(ran.stdout).toContain("boundaryctl release confirm 123-456");
    },
  );

  test("release confirm and cancel are a ceremony's; without a reason or with an unknown word: 2", async () => {
    const { asked } = await run(["release", "confirm", "123-456"]);
    expect(asked).toEqual([{ verb: "ceremony.confirm", params: { code: "123-456", acceptChanges: false } }]);
    await daemon?.stop();
    expect((await run(["release", "cancel"])).asked).toEqual([{ verb: "ceremony.cancel", params: {} }]);
    await daemon?.stop();
    for (const args of [["release"], ["release", "--reason", " "], ["release", "now", "--reason", "r"]]) {
      expect(await run(args)).toMatchObject({ code: 2, asked: [] });
      await daemon?.stop();
    }
  });
});

describe("network propose", () => {
  test("is a configuration that our own parser takes, of what is in use and what shadow saw", () => {
    const flow = { family: 4, localAddress: "10.0.0.1", localPort: 40_000, remotePort: 443 } as const;
    const inUse = {
      flows: [
        { ...flow, remoteAddress: "192.0.2.80" },
        { ...flow, localPort: 22, remotePort: 50_000, remoteAddress: "10.0.0.9" },
        { ...flow, localAddress: "127.0.0.1", remoteAddress: "127.0.0.1" },
      ],
      listeners: [
        { protocol: "tcp", family: 4, address: "0.0.0.0", port: 22, everywhere: true },
        { protocol: "tcp", family: 6, address: "0:0:0:0:0:0:0:0", port: 22, everywhere: true },
        { protocol: "tcp", family: 4, address: "127.0.0.1", port: 631, everywhere: false },
      ],
      unread: 0,
      links: new Map([["127.0.0.1", { name: "lo", loopback: true }]]),
      defaults: ["eth0"],
      tunnels: ["wg0"],
    } as const;
    const blocked = [{ direction: "out", address: "fd00::1", protocol: "udp", port: 53 }] as const;
    const text = renderProposal(inUse, blocked).join("\n");
    const parsed = parseConfig(text);
    expect(parsed).toMatchObject({ ok: true });
    const network = parsed.ok ? parsed.value.network : ConfigSchema.parse({}).network;
    expect(network.trustedInterfaces).toEqual(["wg0"]);
    expect(network.allow).toEqual([
      { direction: "in", protocol: "tcp", port: 22 },
      { direction: "out", address: "192.0.2.80", protocol: "tcp", port: 443 },
      { direction: "out", address: "fd00::1", protocol: "udp", port: 53 },
    ]);
    expect(text).toContain("Default route over: eth0");
    expect(
      parseConfig(renderProposal({ ...inUse, flows: [], listeners: [], tunnels: [] }, []).join("\n")),
    ).toMatchObject({ ok: true });
  });

  test("needs no daemon", async () => {
    const ran = await boundaryctl(["network", "propose", "--runtime-dir", "/nonexistent"]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(parseConfig(ran.stdout)).toMatchObject({ ok: true });
  });

  test("reads default routes of both families", () => {
    const four =
      "Iface\tDestination\tGateway\nlo\t0000007F\t0\t0\t0\t0\t0\t000000FF\neth0\t00000000\t0101A8C0\t3\t0\t0\t0\t00000000\n";
    const any = "0".repeat(32);
    const six = `${any} 00 ${any} 00 ${"1".repeat(32)} 400 1 0 3 wlan0\n${any} 00 ${any} 00 ${any} ffffffff 1 0 200200 lo\nnonsense`;
    expect(defaultLinks(four, six)).toEqual(["eth0", "wlan0"]);
  });
});

test.each([
  ["10.0.0.9 50000 10.0.0.1 22", true],
  ["fe80::1%eth0 50000 fe80::2%eth0 22", true],
  ["", false],
  ["10.0.0.9 50000 10.0.0.1", false],
  ["10.0.0.9 0 10.0.0.1 22", false],
  ["10.0.0.9 99999 10.0.0.1 22", false],
  ["10.0.0.9 50000 10.0.0.1 22 more", false],
])("SSH_CONNECTION %j: %s", (text, good) => {
  expect(sshSession(text) !== null).toBe(good);
});
