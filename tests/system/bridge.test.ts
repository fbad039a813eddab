import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { directoryOfFile } from "../support/directory-of-file.ts";
import { NO_BWRAP, runSandboxed } from "../support/sandboxed.ts";

const directory = directoryOfFile("bridge");
const socket = join(directory, "proxy.sock");
const sockets = new Set<Socket>();
let server: Server;

/** In the place of the proxy: says back what it hears, until its end, and then "over". */
beforeAll(async () => {
  server = createServer({ allowHalfOpen: true }, (one) => {
    sockets.add(one);
    one.on("error", () => undefined);
    one.on("data", (chunk) => one.write(chunk));
    one.on("end", () => one.end("over"));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
});
afterAll(() => {
  for (const one of sockets) one.destroy();
  server.close();
});

const run = (command: readonly string[], stdin = "") => runSandboxed({ socket, command, stdin }).ended;
const node = (source: string) => [process.execPath, "-e", source];

describe.skipIf(NO_BWRAP !== "")(`the bridge in a sandbox ${NO_BWRAP}`, () => {
  test("passes status, output and input of its command", async () => {
    expect(await run(["/bin/sh", "-c", "cat; echo err >&2; exit 7"], "hello")).toEqual({
      code: 7,
      signal: null,
      stdout: "hello",
      stderr: "err\n",
    });
    expect((await run(["/bin/true"])).code).toBe(0);
  });

  test("a command that is ended by a signal is told as shells do, or by that signal", async () => {
    const { code, signal } = await run(["/bin/sh", "-c", "kill -TERM $$"]);
    expect(signal === "SIGTERM" || code === 128 + 15).toBe(true);
  });

  test("there is no such command, it cannot be run, or the call is wrong", async () => {
    expect((await run(["/nonexistent/command"])).code).toBe(127);
    expect((await run([directory])).code).toBe(126);
    expect((await run([])).code).toBe(125);
    const relative = runSandboxed({ socket: "proxy.sock", command: ["/bin/true"] });
    expect((await relative.ended).code).toBe(125);
  });

  test("a signal goes to the command, which may answer it", async () => {
    const script = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    const bridge = [
      "/bin/sh",
      "-c",
      `${process.execPath} ${join(import.meta.dirname, "../../daemon/worker/bridge.ts")} ${socket} -- /bin/sh -c "${script}" & p=$!; sleep 1; kill -TERM $p; wait $p; echo status $?`,
    ];
    const { ended } = runSandboxed({ socket, command: bridge, bare: true });
    expect((await ended).stdout).toBe("up\nasked\nstatus 3\n");
  });

  test("the command finds the proxy in its environment", async () => {
    const { stdout } = await run(["/usr/bin/env"]);
    const proxy = "http://127.0.0.1:3128";
    for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"])
      expect(stdout).toContain(`${name}=${proxy}\n`);
    expect(stdout).toContain("NO_PROXY=localhost,127.0.0.1,::1\n");
  });

  test("what is sent to the port comes to the socket, and back, each end by itself", async () => {
    const { stdout, code } = await run(
      node(
        'const s = require("net").connect({ port: 3128, host: "127.0.0.1", allowHalfOpen: true }); let n = 0, tail = "";' +
          's.on("data", (c) => { n += c.length; tail = (tail + c).slice(-4); });' +
          's.on("end", () => { console.log(n, tail); process.exit(0); }); s.write(Buffer.alloc(5000000, 97)); s.end();',
      ),
    );
    expect([code, stdout]).toEqual([0, "5000004 over\n"]);
  });

  test("nobody else listens, and there is no other way out", async () => {
    const { stdout } = await run([
      "/bin/sh",
      "-c",
      "cat /proc/net/dev | tail -n +3 | wc -l; cat /proc/net/route | wc -l",
    ]);
    expect(stdout.trim().split(/\s+/)).toEqual(["1", "1"]);
  });

  test("when the bridge is killed, the command goes with the sandbox", async () => {
    const script = `echo $PPID; exec sleep 300`;
    const { child, ended } = runSandboxed({ socket, command: ["/bin/sh", "-c", script] });
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    const begun = performance.now();
    child.kill("SIGKILL");
    await ended; // stdout is closed: nobody holds it any more
    expect(performance.now() - begun).toBeLessThan(3_000);
  });

  test("where the socket leads nowhere, connections end and the command goes on", async () => {
    const command = ["/usr/bin/curl", "-s", "-m", "5", "http://example.com/"];
    const { code } = await runSandboxed({ socket: join(directory, "none.sock"), command }).ended;
    expect([52, 56, 7]).toContain(code);
  });
});
