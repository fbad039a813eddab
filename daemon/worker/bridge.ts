import { spawn } from "node:child_process";
import { connect, createServer, type Socket } from "node:net";
import { constants } from "node:os";

/**
 * A program of its own, which runs inside a sandbox: `bridge.ts SOCKET -- COMMAND ARGUMENT…`. It listens on loopback of
 * the sandbox's own network namespace, which leads nowhere, and passes each connection on to SOCKET, the egress proxy's.
 * COMMAND runs as its child and finds the proxy in its environment. The bridge ends as the command ends, with its status or
 * by its signal; whoever made the sandbox ends all that is in it when the bridge ends. It decides nothing: what passes is
 * the proxy's to say.
 */
const HOST = "127.0.0.1";
const PORT = 3128;
const PROXY = `http://${HOST}:${PORT}`;
/** Loopback of the sandbox is its own: programs speak to each other there without the proxy. */
const NEAR = "localhost,127.0.0.1,::1";
const ENVIRONMENT = {
  HTTP_PROXY: PROXY,
  HTTPS_PROXY: PROXY,
  ALL_PROXY: PROXY,
  NO_PROXY: NEAR,
  http_proxy: PROXY,
  https_proxy: PROXY,
  all_proxy: PROXY,
  no_proxy: NEAR,
  /** Node looks at these only then. */
  NODE_USE_ENV_PROXY: "1",
};
const MAX_CONNECTIONS = 256;
const PASSED_ON = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGTERM",
  "SIGUSR1",
  "SIGUSR2",
  "SIGCONT",
  "SIGWINCH",
] as const;
/** As shells have it: the bridge itself failed; the command cannot be run; there is none; by a signal. */
const EXIT = { failed: 125, cannotRun: 126, notFound: 127, signal: 128 } as const;

function main(argv: readonly string[]): void {
  const [path, dashes, command, ...args] = argv;
  if (path === undefined || !path.startsWith("/") || dashes !== "--" || command === undefined)
    fail("usage: bridge SOCKET -- COMMAND ARGUMENT…");
  else serve(path, () => run(command, args));
}

function serve(path: string, then: () => void): void {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => passOn(socket, path));
  server.maxConnections = MAX_CONNECTIONS;
  server.once("error", (error) => fail(`listening on ${HOST}:${PORT}: ${error.message}`));
  server.listen({ host: HOST, port: PORT, exclusive: true }, then);
}

/** Both ways, no faster than it is taken, each end by itself. */
function passOn(near: Socket, path: string): void {
  const far = connect({ path, allowHalfOpen: true });
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.on("error", () => undefined); // "close" tells
    // what came before it broke off is still passed on: it may be the answer that says why
    one.once("close", (failed) => (failed || !one.readableEnded ? other.destroySoon() : other.end()));
    one.pipe(other);
  }
}

function run(command: string, args: readonly string[]): void {
  const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, ...ENVIRONMENT } });
  const handlers = PASSED_ON.map((signal) => [signal, () => void child.kill(signal)] as const);
  for (const [signal, handler] of handlers) process.on(signal, handler);
  child.once("error", (error: NodeJS.ErrnoException) => {
    if (child.pid !== undefined) return; // a signal could not be sent: it is gone
    fail(`running ${command}: ${error.message}`, error.code === "ENOENT" ? EXIT.notFound : EXIT.cannotRun);
  });
  child.once("exit", (code, signal) => {
    for (const [name, handler] of handlers) process.off(name, handler);
    if (code !== null) process.exit(code);
    const number = constants.signals[signal ?? "SIGKILL"];
    // its own end is told as it was; where it is the first process of its namespace the kernel does not let it
    process.kill(process.pid, signal ?? "SIGKILL");
    setTimeout(() => process.exit(EXIT.signal + number), 100);
  });
}

function fail(why: string, code: number = EXIT.failed): void {
  process.stderr.write(`bridge: ${why}\n`);
  process.exit(code);
}

main(process.argv.slice(2));
