import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { NO_BWRAP, runSandboxed, startSaying } from "../support/sandboxed.ts";
import { type Certificates, makeCertificates } from "../support/tls-files.ts";

/**
 * A command in a sandbox without a network, the bridge, the proxy in a namespace that reaches the world, and the world
 * in another: two servers and a name server, at public addresses that are so in these namespaces alone.
 */
const WHY = NO_NETNS || NO_BWRAP;
const SUPPORT = join(import.meta.dirname, "../support");
const WORLD = "93.184.216.34";
const OURS = "93.184.216.1";
const SOCKET_NAME = "egress/0123456789abcdef0123456789abcdef.sock";
const ZONE = {
  "other.example": [[WORLD]],
  "www.other.example": [[WORLD]],
  "private.other.example": [["10.0.0.9"]],
  "both.other.example": [[WORLD, "10.0.0.9"]],
  "meta.other.example": [["169.254.169.254"]],
  "loop.other.example": [["127.0.0.1"]],
  "self.other.example": [[OURS]],
  "rebind.other.example": [[WORLD], ["127.0.0.1"]],
  "empty.other.example": [[]],
  "forbidden.other.example": [[WORLD]],
  "a.b.other.example": [[WORLD]],
  "unlisted.example": [[WORLD]],
};
const CONFIG = {
  allow: ["other.example", "*.other.example", "169.254.169.254", "*.example.org"],
  resolvers: [WORLD],
  limits: { resolveMs: 2_000, connectMs: 2_000 },
};

type Running = Awaited<ReturnType<typeof startSaying>>;
const directory = mkdtempSync(join(tmpdir(), "boundary-egress-system-"));
let certificates: Certificates;
let world: Running;
let near: Netns;
const running: Running[] = [];

const inside = (netns: Netns, file: string, ...args: readonly string[]) =>
  startSaying("/usr/sbin/ip", ["netns", "exec", netns.name, process.execPath, join(SUPPORT, file), ...args]);

async function startProxy(config: object = CONFIG, scope: object = {}) {
  const runtimeDir = mkdtempSync(join(directory, "run-"));
  const host = await inside(
    near,
    "egress-host-process.ts",
    runtimeDir,
    JSON.stringify(config),
    JSON.stringify(scope),
  );
  running.push(host);
  const socket = join(runtimeDir, SOCKET_NAME);
  const told = (line: string) => JSON.parse(line) as Record<string, unknown>;
  const records = () => host.lines.filter((line) => line.startsWith("{")).map(told);
  return { ...host, socket, records };
}

const curl = (socket: string, ...args: readonly string[]) =>
  runSandboxed({ socket, command: ["/usr/bin/curl", "-sS", "-m", "8", "--cacert", certificates.ca, ...args] })
    .ended;
const status = (socket: string, ...args: readonly string[]) =>
  curl(socket, "-o", "/dev/null", "-w", "%{http_code} %{http_connect}", ...args);

describe.skipIf(WHY !== "")(`a command that has the proxy alone ${WHY}`, () => {
  beforeAll(async () => {
    certificates = makeCertificates(directory);
    const far = createNetns("world");
    near = createNetns("proxy");
    connect(
      { netns: far, link: "w", addresses: [`${WORLD}/24`] },
      { netns: near, link: "p", addresses: [`${OURS}/24`] },
    );
    const { cert, key } = certificates.otherName;
    world = await inside(far, "egress-origin.ts", WORLD, cert, key, JSON.stringify(ZONE));
    running.push(world);
  }, 60_000);
  afterAll(async () => {
    for (const one of running.toReversed()) await one.stop();
    removeNetns();
    rmSync(directory, { recursive: true, force: true });
  });

  test("reaches a listed host by plain HTTP and by TLS, from end to end, and both are on record", async () => {
    const { socket, records } = await startProxy();
    expect(await curl(socket, "http://other.example/plain")).toMatchObject({
      code: 0,
      stdout: "the world\n",
    });
    expect(await curl(socket, "https://other.example/tls")).toMatchObject({ code: 0, stdout: "the world\n" });
    expect(world.lines).toContain("http GET other.example /plain");
    expect(world.lines).toContain("https GET other.example /tls");
    expect(records()).toMatchObject([
      { kind: "egress.opened", way: "http", host: "other.example", port: 80, addresses: [WORLD] },
      { kind: "egress.opened", way: "tls", host: "other.example", port: 443, serverName: "other.example" },
    ]);
  });

  test("Node's own client finds the proxy too", async () => {
    const { socket } = await startProxy();
    const source = 'fetch("https://other.example/fetched").then((r) => r.text()).then(console.log)';
    const trusting = [
      "/usr/bin/env",
      `NODE_EXTRA_CA_CERTS=${certificates.ca}`,
      process.execPath,
      "-e",
      source,
    ];
    const { stdout } = await runSandboxed({ socket, command: trusting }).ended;
    expect(stdout).toBe("the world\n\n");
  });

  test("reaches nothing around the proxy; where there is a network, the same does", async () => {
    const { socket } = await startProxy();
    const around = ["--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}"];
    const direct = [...around, `http://${WORLD}/around`];
    expect(near.exec("curl", "-sS", "-m", "8", ...direct)).toBe("200"); // the control
    for (const target of [
      `http://${WORLD}/`,
      `http://${OURS}/`,
      "http://10.0.0.1/",
      "http://[2606:4700::1]/",
    ])
      expect(await curl(socket, ...around, target)).toMatchObject({ code: 7 });
    const udp = `const s = require("dgram").createSocket("udp4"); s.send("x", 53, "${WORLD}", (e) => { console.log(e?.code ?? "sent"); s.close(); })`;
    const sent = await runSandboxed({ socket, command: [process.execPath, "-e", udp] }).ended;
    expect(sent.stdout).toBe("ENETUNREACH\n");
    const named = await curl(socket, ...around, "http://other.example/");
    expect([6, 7]).toContain(named.code);
    expect(world.lines.filter((line) => line.includes("/around"))).toHaveLength(1);
  });

  test.each([
    ["a host on no list", "unlisted.example", "egress-denied"],
    ["a host two labels below a wildcard", "a.b.other.example", "egress-denied"],
    ["an address", WORLD, "egress-denied"],
    ["listed metadata", "169.254.169.254", "egress-address"],
    ["a host that policy denies", "forbidden.other.example", "egress-denied"],
    ["a host at a private address", "private.other.example", "egress-address"],
    ["a host at a public and a private address", "both.other.example", "egress-address"],
    ["a host at metadata's address", "meta.other.example", "egress-address"],
    ["a host at loopback", "loop.other.example", "egress-address"],
    ["a host at the proxy's own address", "self.other.example", "egress-address"],
    ["a host without an address", "empty.other.example", "egress-unresolved"],
    ["a host that is not", "nowhere.other.example", "egress-unresolved"],
  ])("does not reach %s", async (_what, host, code) => {
    const { socket, records } = await startProxy();
    const before = world.lines.length;
    const plain = await status(socket, "-g", `http://${host}/`);
    const secure = await status(socket, "-g", "-k", `https://${host}/`);
    const answer = code === "egress-unresolved" ? "502" : "403";
    expect(plain.stdout).toBe(`${answer} 000`);
    expect(secure.stdout).toBe(`000 ${answer}`);
    expect(records().map((record) => [record["kind"], record["code"]])).toEqual([
      ["egress.refused", code],
      ["egress.refused", code],
    ]);
    const heard = world.lines.slice(before).filter((line) => !line.startsWith("dns "));
    expect(heard).toEqual([]);
    if (code === "egress-denied") expect(world.lines.slice(before)).toEqual([]);
  });

  test("does not reach another port, or a host by the name of another", async () => {
    const { socket, records } = await startProxy();
    expect((await status(socket, "http://other.example:8080/")).stdout).toBe("403 000");
    expect((await status(socket, "https://other.example:8080/")).stdout).toBe("000 403");
    const mismatch = ["--connect-to", "evil.example:443:other.example:443", "https://evil.example/"];
    expect((await curl(socket, "-k", ...mismatch)).code).toBe(35);
    expect((await status(socket, "-H", "Host: evil.example", "http://other.example/")).stdout).toBe(
      "400 000",
    );
    expect(records().map((record) => record["code"])).toEqual([
      "egress-denied",
      "egress-denied",
      "egress-name",
      "http-invalid",
    ]);
  });

  test("a name that changes its address is judged anew, and never reached at what was not judged", async () => {
    const { socket, records } = await startProxy();
    expect((await status(socket, "http://rebind.other.example/one")).stdout).toBe("200 000");
    expect((await status(socket, "http://rebind.other.example/two")).stdout).toBe("403 000");
    expect(world.lines.filter((line) => line === "dns rebind.other.example")).toHaveLength(4); // A and AAAA, twice
    expect(records().map((record) => record["kind"])).toEqual(["egress.opened", "egress.refused"]);
  });

  test("a project, and a session, take away from what is listed", async () => {
    const lists = { ...CONFIG, projects: { web: ["www.other.example"] } };
    const web = await startProxy(lists, { project: "web" });
    expect((await status(web.socket, "http://www.other.example/")).stdout).toBe("200 000");
    expect((await status(web.socket, "http://other.example/")).stdout).toBe("403 000");
    const unknown = await startProxy(lists, { project: "unknown" });
    expect((await status(unknown.socket, "http://www.other.example/")).stdout).toBe("403 000");
    const session = await startProxy(CONFIG, { session: [] });
    expect((await status(session.socket, "http://other.example/")).stdout).toBe("403 000");
    const nothing = await startProxy({ resolvers: [WORLD] });
    expect((await status(nothing.socket, "http://other.example/")).stdout).toBe("403 000");
  });

  test("loses what it has when the mode takes the network away, and the host is let go too", async () => {
    const { socket, records, tell, lines } = await startProxy();
    const slow = runSandboxed({
      socket,
      command: ["/usr/bin/curl", "-sSN", "--cacert", certificates.ca, "https://other.example/slow"],
    });
    await new Promise((resolve) => slow.child.stdout?.once("data", resolve));
    const begun = performance.now();
    tell("mode.changed");
    const { code } = await slow.ended;
    expect(code).not.toBe(0);
    expect(performance.now() - begun).toBeLessThan(1_000);
    await expect.poll(() => lines).toContain("ended");
    await expect.poll(() => world.lines).toContain("slow ended");
    expect(existsSync(socket)).toBe(false);
    expect(records().at(-1)).toMatchObject({
      kind: "egress.closed",
      why: "mode.changed",
      host: "other.example",
    });
    expect((await curl(socket, "http://other.example/")).code).not.toBe(0);
  });
});
