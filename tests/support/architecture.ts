import { dirname, posix } from "node:path";
import { type Import, importsOf } from "./imports.ts";
import { type Token, tokensOf } from "./source-tokens.ts";

/**
 * The import table of DESIGN section 3, as data: what each part may import, and why. What is not in the table is
 * refused. `scope` is a file, a directory ("daemon/core/") or the files directly in one ("daemon/*").
 */
type Row = { readonly scope: string; readonly may: readonly Allowance[] };

/**
 * `what`: a scope of this project, a package, "node:*" (but never FORBIDDEN_BUILTINS), or "node:x".
 * `only`: "types" for type imports alone, or the names that may be imported.
 */
type Allowance = {
  readonly what: string;
  readonly only?: "types" | readonly string[];
  readonly why: string;
};

export type Finding = { readonly path: string; readonly line: number; readonly problem: string };

const HASHING = ["hash", "createHash"];

export const TABLE: readonly Row[] = [
  {
    scope: "daemon/core/",
    may: [
      { what: "daemon/core/", why: "the pure core is one part" },
      { what: "daemon/audit/record.ts", only: "types", why: "a step says what to record" },
      { what: "zod", why: "a pure library: the configuration's schema" },
      { what: "yaml", why: "a pure library: text to value with line and column" },
      { what: "node:buffer", only: ["isUtf8"], why: "a pure function on bytes" },
      {
        what: "node:crypto",
        only: HASHING,
        why: "a digest is a pure function; randomness comes in as a value",
      },
    ],
  },
  {
    scope: "daemon/protocol/",
    may: [
      { what: "daemon/protocol/", why: "one part" },
      { what: "daemon/core/", why: "modes and error codes are words of the protocol" },
      { what: "daemon/ports.ts", only: "types", why: "sensor health is shown as the port says it" },
      { what: "daemon/vault/document.ts", why: "what a secret may be called, and how long it may be" },
      { what: "zod", why: "outside data is unknown until parsed" },
      { what: "node:buffer", only: ["isUtf8"], why: "a pure function on bytes" },
    ],
  },
  {
    scope: "daemon/policy/",
    may: [
      { what: "daemon/policy/", why: "one part" },
      { what: "daemon/core/", why: "decisions are about modes" },
      { what: "daemon/protocol/", why: "questions and decisions are words of the protocol" },
      { what: "daemon/audit/record.ts", only: "types", why: "a decision says what to record" },
      { what: "zod", why: "outside data is unknown until parsed" },
      { what: "node:crypto", only: HASHING, why: "the digest of a set is a pure function of its files" },
    ],
  },
  {
    scope: "daemon/exec/run-order.ts",
    may: [
      { what: "daemon/core/", why: "an order names a mode" },
      { what: "daemon/audit/canonical.ts", why: "what is signed is written in one way" },
      { what: "daemon/audit/canonical-read.ts", why: "and read in that way alone" },
      { what: "daemon/audit/ed25519.ts", why: "signatures are checked by one set of rules" },
      { what: "zod", why: "an order is unknown until parsed" },
      {
        what: "node:crypto",
        only: ["sign", "KeyObject"],
        why: "with Ed25519 a pure function of key and text",
      },
    ],
  },
  {
    scope: "daemon/exec/",
    may: [
      { what: "daemon/exec/", why: "one part" },
      { what: "daemon/core/", why: "decisions are about modes; secrets are found in one place" },
      { what: "daemon/protocol/", only: "types", why: "a verdict is told in words of the protocol" },
      { what: "zod", why: "a profile is unknown until parsed" },
      { what: "node:path", only: ["posix"], why: "pure functions on text" },
      { what: "node:buffer", only: ["isUtf8"], why: "a pure function on bytes" },
    ],
  },
  {
    scope: "daemon/egress/",
    may: [
      { what: "daemon/egress/", why: "one part: what of a connection is read, judged and recorded" },
      { what: "daemon/core/", why: "error codes, ranges of addresses, what is a secret" },
      { what: "daemon/audit/record.ts", only: "types", why: "a connection is a record" },
      { what: "zod", why: "what its process says is unknown until parsed" },
      { what: "tldts", only: ["getDomain"], why: "a pure library: the public suffix list" },
      {
        what: "node:url",
        only: ["domainToASCII", "domainToUnicode"],
        why: "pure functions on text",
      },
    ],
  },
  {
    scope: "daemon/egress-service/",
    may: [
      { what: "daemon/egress-service/", why: "a process of its own: nothing of the daemon's state is in it" },
      { what: "daemon/egress/", why: "what of a connection is read, judged and recorded" },
      { what: "daemon/core/", why: "error codes" },
      { what: "daemon/ports.ts", only: "types", why: "the operational log" },
      { what: "daemon/adapters/egress-dial.ts", why: "the proxy's parts" },
      { what: "daemon/adapters/egress-listen.ts", why: "the proxy's parts" },
      { what: "daemon/adapters/egress-resolve.ts", why: "the proxy's parts" },
      { what: "daemon/adapters/frame-socket.ts", why: "a process beside the daemon speaks in one way" },
      { what: "daemon/adapters/listen-one.ts", why: "and listens for it in one way" },
      { what: "daemon/adapters/named-user.ts", why: "users are looked up in one place" },
      { what: "daemon/adapters/op-log.ts", why: "diagnostics have one form" },
      { what: "daemon/adapters/peer.ts", why: "who connects is asked of the kernel in one place" },
      { what: "daemon/adapters/process-guard.ts", why: "a process is closed off in one way" },
      { what: "daemon/adapters/systemd.ts", why: "the service manager is told in one way" },
      { what: "node:*", why: "it does the I/O" },
    ],
  },
  {
    scope: "daemon/worker/main.ts",
    may: [
      { what: "daemon/worker/", why: "the composition root of a process of its own" },
      { what: "daemon/core/", why: "error codes" },
      { what: "daemon/adapters/clock.ts", why: "orders are dated by the clock that the daemon reads" },
      { what: "daemon/adapters/listen-one.ts", why: "a process beside the daemon listens for it in one way" },
      { what: "daemon/adapters/named-user.ts", why: "users are looked up in one place" },
      { what: "daemon/adapters/op-log.ts", why: "diagnostics have one form" },
      { what: "daemon/adapters/systemd.ts", why: "the service manager is told in one way" },
      { what: "node:*", why: "signals, exit codes and paths are the process's own" },
    ],
  },
  {
    scope: "daemon/worker/launch.ts",
    may: [
      { what: "daemon/worker/", why: "one part" },
      { what: "node:child_process", why: "the one place where the worker starts a program" },
      { what: "node:*", why: "it does the I/O" },
    ],
  },
  {
    scope: "daemon/worker/session.ts",
    may: [
      { what: "daemon/worker/", why: "one part" },
      { what: "daemon/exec/", why: "the order, which the daemon writes and the worker reads" },
      { what: "daemon/adapters/frame-socket.ts", why: "a process beside the daemon speaks in one way" },
      { what: "daemon/adapters/listen-one.ts", only: "types", why: "what is served" },
      { what: "node:*", why: "it does the I/O" },
    ],
  },
  {
    scope: "daemon/worker/",
    may: [
      { what: "daemon/worker/", why: "one part: nothing of the daemon's state is in it" },
      { what: "daemon/exec/", why: "the order, which the daemon writes and the worker reads" },
      { what: "daemon/core/", why: "error codes, and strict JSON" },
      { what: "koffi", why: "kernel calls, which Node has not" },
      { what: "zod", why: "a message is unknown until parsed" },
      { what: "node:*", why: "it does the I/O" },
    ],
  },
  {
    scope: "daemon/audit/",
    may: [
      { what: "daemon/audit/", why: "one part: verification needs nothing else of the daemon" },
      { what: "daemon/core/", why: "error codes, and strict JSON" },
      { what: "daemon/ports.ts", only: "types", why: "the appender writes through LogStore and Signer" },
      { what: "zod", why: "a record is unknown until parsed" },
      { what: "node:buffer", why: "bytes are what is hashed" },
      { what: "node:crypto", why: "hashes and signatures; the private key stays behind the Signer port" },
    ],
  },
  {
    scope: "daemon/vault/",
    may: [
      { what: "daemon/vault/", why: "one part: what is sealed, and how" },
      { what: "daemon/core/", why: "error codes, strict JSON, and what a secret looks like" },
      { what: "daemon/ports.ts", only: "types", why: "a KEK is a port, whatever holds it" },
      { what: "zod", why: "a file is unknown until parsed" },
      { what: "node:crypto", why: "ciphers, key derivation, and the randomness of keys and nonces" },
    ],
  },
  {
    scope: "daemon/ports.ts",
    may: [
      { what: "daemon/core/", only: "types", why: "ports speak in the core's values" },
      { what: "daemon/audit/record.ts", only: "types", why: "ports speak in records" },
      { what: "daemon/exec/", only: "types", why: "what is ordered, and what a program's file is" },
    ],
  },
  {
    scope: "daemon/compose/",
    may: [
      { what: "daemon/", why: "the parts of the composition root that are more than a line" },
      { what: "node:*", why: "exit codes and paths are the process's own" },
    ],
  },
  {
    scope: "daemon/main.ts",
    may: [
      { what: "daemon/", why: "the composition root builds and wires everything" },
      { what: "node:*", why: "signals, exit codes and paths are the process's own" },
    ],
  },
  {
    scope: "daemon/*",
    may: [
      {
        what: "daemon/egress/allowlist.ts",
        why: "a list of hosts that comes with a request is read as the others are",
      },
      { what: "daemon/*", why: "the loop and its parts" },
      { what: "daemon/core/", why: "decides" },
      { what: "daemon/policy/", why: "decides" },
      { what: "daemon/audit/", why: "records" },
      { what: "daemon/protocol/", why: "answers" },
      { what: "daemon/vault/", why: "seals" },
      { what: "daemon/exec/", why: "judges commands" },
      { what: "daemon/ports.ts", why: "acts, through ports alone" },
      { what: "zod", only: "types", why: "the schemas live in protocol" },
      {
        what: "node:crypto",
        why: "ids and one-time codes come from the CSPRNG here and go into the core as values",
      },
      { what: "node:util", only: ["parseArgs"], why: "a pure function on argv" },
    ],
  },
  {
    scope: "daemon/adapters/run.ts",
    may: [
      { what: "daemon/core/", why: "error codes" },
      { what: "node:child_process", why: "the one place where other programs start" },
      { what: "node:*", why: "adapters do the I/O" },
    ],
  },
  {
    scope: "daemon/adapters/cedar-process.ts",
    may: [
      { what: "daemon/core/", why: "error codes" },
      { what: "daemon/ports.ts", only: "types", why: "it implements a port" },
      { what: "daemon/adapters/powerless.ts", why: "our helpers are started without our rights" },
      {
        what: "node:child_process",
        why: "our own program, once more: what WebAssembly does to V8 ends there",
      },
      { what: "node:*", why: "adapters do the I/O" },
    ],
  },
  {
    scope: "daemon/adapters/pkcs11-process.ts",
    may: [
      { what: "daemon/core/", why: "error codes" },
      { what: "daemon/ports.ts", only: "types", why: "it implements a port" },
      { what: "daemon/adapters/kek-pkcs11.ts", only: "types", why: "which token it is" },
      {
        what: "daemon/adapters/pkcs11-module.ts",
        only: ["moduleFault"],
        why: "a module that is not to be loaded",
      },
      { what: "daemon/adapters/pkcs11-wire.ts", why: "what is said to the process, in one place" },
      { what: "daemon/adapters/powerless.ts", why: "our helpers are started without our rights" },
      {
        what: "node:child_process",
        why: "our own program, once more: a token's module is somebody else's code, and may hang",
      },
      { what: "node:*", why: "adapters do the I/O" },
    ],
  },
  {
    scope: "daemon/adapters/pkcs11-child.ts",
    may: [
      { what: "daemon/core/", why: "error codes" },
      { what: "daemon/ports.ts", only: "types", why: "a KEK is a port" },
      { what: "daemon/adapters/kek-pkcs11.ts", why: "it runs in this process alone" },
      { what: "daemon/adapters/koffi-stacks.ts", why: "koffi takes its settings once" },
      { what: "daemon/adapters/pkcs11-wire.ts", why: "what is said to the process, in one place" },
      { what: "daemon/adapters/powerless.ts", why: "it has none of our rights, or it ends" },
      { what: "daemon/adapters/process-guard.ts", why: "what it holds in memory is in no core dump" },
      { what: "node:*", why: "adapters do the I/O" },
    ],
  },
  {
    scope: "daemon/adapters/garbage.ts",
    may: [
      {
        what: "node:inspector",
        only: ["Session"],
        why: "within the process it collects the garbage, and erased keys with it; no port is opened",
      },
    ],
  },
  {
    scope: "daemon/adapters/ipc.ts",
    may: [
      { what: "daemon/core/", why: "an adapter speaks in the core's values" },
      { what: "daemon/ports.ts", why: "it implements a port" },
      { what: "daemon/protocol/", why: "frames and replies" },
      { what: "daemon/adapters/socket-descriptor.ts", why: "Node's own fields are read in one place" },
      { what: "node-ipc", why: "behind this one adapter, so that it can be replaced in a day" },
      { what: "node-ipc/parsers", why: "the same package" },
      { what: "node:*", why: "adapters do the I/O" },
    ],
  },
  {
    scope: "daemon/adapters/cedar-child.ts",
    may: [
      { what: "daemon/policy/", why: "policy files are read where they can do no harm" },
      { what: "daemon/ports.ts", only: "types", why: "the orders it takes" },
      { what: "daemon/adapters/powerless.ts", why: "it has none of our rights, or it ends" },
      {
        what: "@cedar-policy/cedar-wasm/nodejs",
        why: "Cedar itself, in a process of its own alone: a policy can kill it",
      },
    ],
  },
  {
    scope: "daemon/adapters/egress-resolve.ts",
    may: [{ what: "node:dns/promises", only: ["Resolver"], why: "the one place where names are looked up" }],
  },
  {
    scope: "daemon/worker/bridge.ts",
    may: [
      {
        what: "node:child_process",
        only: ["spawn"],
        why: "inside the sandbox it starts the command it is for",
      },
      { what: "node:net", why: "loopback to a Unix socket, both inside the sandbox" },
      { what: "node:*", why: "a program of its own, with nothing of ours in it" },
    ],
  },
  {
    scope: "daemon/adapters/",
    may: [
      { what: "daemon/egress/", why: "what of a connection is read and judged, in one place" },
      { what: "daemon/adapters/listen-at.ts", why: "a socket is bound and published in one place" },
      { what: "daemon/adapters/socket-path.ts", why: "a socket's place is claimed in one way" },
      { what: "daemon/adapters/egress-connect.ts", why: "the proxy's parts" },
      { what: "daemon/adapters/egress-forward.ts", why: "the proxy's parts" },
      { what: "daemon/adapters/egress-exchange.ts", why: "the proxy's parts" },
      { what: "daemon/adapters/egress-dial.ts", why: "the proxy's parts" },
      { what: "daemon/core/", why: "an adapter speaks in the core's values" },
      { what: "daemon/ports.ts", why: "it implements a port" },
      { what: "daemon/protocol/", why: "frames and replies" },
      { what: "daemon/audit/", only: "types", why: "it stores what the audit log hands over" },
      {
        what: "daemon/audit/checkpoint.ts",
        only: ["parseVkey", "renderVkey"],
        why: "a key is written and read one way",
      },
      {
        what: "daemon/vault/kek-local.ts",
        why: "what a KEK source reads is held, used and dropped in one way",
      },
      { what: "daemon/vault/psk.ts", only: ["readKeyText"], why: "a key in text is read one way" },
      { what: "daemon/exec/", only: "types", why: "what is ordered, and what a program's file is" },
      {
        what: "daemon/exec/run-order.ts",
        only: ["renderOrder", "signOrder"],
        why: "an order is signed one way",
      },
      {
        what: "daemon/exec/worker-frames.ts",
        why: "what is said to the worker is written and read in one place",
      },
      { what: "daemon/adapters/process-link.ts", why: "the daemon speaks to a process beside it in one way" },
      { what: "daemon/adapters/peer.ts", why: "who listens is asked of the kernel in one place" },
      { what: "daemon/adapters/exec-programs.ts", why: "a program is looked up in one place" },
      { what: "daemon/adapters/run.ts", why: "programs start in one place" },
      { what: "daemon/adapters/secret-file.ts", why: "secrets are kept and erased in one place" },
      { what: "daemon/adapters/own-directory.ts", why: "a directory is made durable in one place" },
      {
        what: "daemon/adapters/file-attributes.ts",
        why: "what a file system holds for a file, in one place",
      },
      { what: "daemon/adapters/file-reserve.ts", why: "room behind a file's end, in one place" },
      { what: "daemon/adapters/garbage.ts", why: "the inspector is used in one place" },
      { what: "daemon/adapters/nft-generation.ts", why: "both ways to nft ask the kernel the same" },
      { what: "daemon/adapters/pkcs11-layout.ts", why: "the bytes of PKCS#11, in one place" },
      { what: "daemon/adapters/pkcs11-module.ts", why: "a token's library is loaded in one place" },
      { what: "daemon/adapters/pkcs11-session.ts", why: "what a token is asked, a step each" },
      { what: "daemon/adapters/pkcs11-login.ts", why: "who may use a token" },
      { what: "daemon/adapters/pkcs11-turns.ts", why: "waiting for a token, in one place" },
      { what: "daemon/adapters/pkcs11-wrap.ts", why: "how a token wraps a key, in one place" },
      { what: "daemon/adapters/koffi-stacks.ts", why: "koffi takes its settings once" },
      { what: "daemon/adapters/input-poll.ts", why: "waiting for input devices, in one place" },
      { what: "daemon/adapters/http-message.ts", why: "what of HTTP is refused before it is a question" },
      { what: "daemon/adapters/socket-descriptor.ts", why: "Node's own fields are read in one place" },
      { what: "koffi", why: "kernel calls and libnftables, which Node has not" },
      { what: "chokidar", why: "file events" },
      { what: "usb", why: "hot-plug events" },
      { what: "systeminformation", why: "the inventory" },
      { what: "pino", why: "the operational log" },
      { what: "zod", why: "what a file holds is unknown until parsed" },
      { what: "node:*", why: "adapters do the I/O" },
    ],
  },
  {
    scope: "client/",
    may: [
      { what: "client/", why: "one part: what other programs import" },
      { what: "daemon/protocol/", why: "it speaks the protocol" },
      { what: "daemon/core/", why: "modes, error codes, back-off" },
      { what: "zod", only: "types", why: "loading it costs more than connecting" },
      { what: "node:net", why: "the control socket" },
      { what: "node:timers/promises", why: "deadlines and back-off" },
      {
        what: "node:fs",
        only: ["existsSync", "lstatSync"],
        why: "where the daemon's directories are, and whose",
      },
      { what: "node:path", why: "where the daemon's directories are" },
    ],
  },
  {
    scope: "cli/mcp/",
    may: [
      { what: "cli/", why: "one part" },
      { what: "client/", why: "the way to the daemon" },
      { what: "daemon/core/", why: "modes and error codes" },
      { what: "daemon/protocol/", why: "it speaks the protocol" },
      { what: "@modelcontextprotocol/sdk/server/mcp.js", why: "the protocol of MCP, its server alone" },
      { what: "@modelcontextprotocol/sdk/server/stdio.js", why: "over stdin and stdout alone" },
      { what: "zod", why: "what the SDK takes as the schema of a tool; loaded by this command alone" },
      { what: "node:timers/promises", only: ["setImmediate"], why: "answers leave before the end" },
    ],
  },
  {
    scope: "cli/",
    may: [
      { what: "cli/", why: "one part" },
      { what: "client/", why: "the one way to the daemon" },
      { what: "daemon/protocol/", why: "it speaks the protocol" },
      { what: "daemon/audit/", why: "verify-log runs without a daemon" },
      { what: "daemon/core/", why: "modes and error codes" },
      { what: "daemon/exec/", why: "`exec check` judges without a daemon" },
      { what: "daemon/policy/", why: "policies are checked and explained without a daemon" },
      { what: "daemon/policy-load.ts", why: "a set is made in one place" },
      {
        what: "daemon/adapters/cedar-process.ts",
        why: "policy text is read in a throw-away process, here too",
      },
      { what: "daemon/adapters/policy-directory.ts", why: "a policy directory is read in one place" },
      { what: "daemon/adapters/exec-programs.ts", why: "programs are looked up as the daemon does" },
      { what: "yargs", why: "arguments" },
      { what: "tweetnacl", why: "a second opinion on signatures, where its 20 ms each are nothing" },
      { what: "zod", only: "types", why: "the schemas live in protocol" },
      { what: "node:module", only: ["enableCompileCache"], why: "starts in half the time; loads nothing" },
      { what: "node:*", why: "a program of its own" },
    ],
  },
];

/** Denied also where "node:*" is allowed, unless named. */
const FORBIDDEN_BUILTINS: ReadonlyMap<string, string> = new Map([
  ["node:child_process", "other programs start in adapters/run.ts alone"],
  ["node:cluster", "one process, one loop"],
  ["node:dns", "no DNS look-up but in adapters/egress-resolve.ts"],
  ["node:dns/promises", "no DNS look-up but in adapters/egress-resolve.ts"],
  ["node:inspector", "a debugger reads keys"],
  ["node:repl", "no code from outside"],
  ["node:vm", "no code from outside"],
  ["node:module", "imports are static"],
]);

const PURE = [
  "daemon/core/",
  "daemon/protocol/",
  "daemon/policy/",
  "daemon/audit/",
  "daemon/vault/",
  "daemon/exec/",
  "daemon/egress/",
];
const BANNED_NAMES = /(^|\/)(?:index|utils?|helpers?|common|misc)\.ts$/;
/** What a pure file may use all the same. */
const EXCEPTIONS: ReadonlyMap<string, readonly string[]> = new Map([
  // a batch closes when the turn ends: an order, not a time
  ["daemon/audit/log.ts", ["setImmediate"]],
]);
const TIMERS = ["setTimeout", "setInterval", "setImmediate", "performance", "fetch"];

/** Every finding in one file of daemon/, cli/ or client/. `path` is relative to the project, with "/". */
export function checkSource(path: string, source: string): readonly Finding[] {
  const tokens = tokensOf(source);
  const row = TABLE.find((one) => one.scope === path) ?? TABLE.find((one) => inScope(path, one.scope));
  const imports = row
    ? importsOf(tokens).flatMap((one) => importProblem(path, row, one))
    : [{ path, line: 1, problem: "no row of the import table covers this file" }];
  const names = BANNED_NAMES.test(path)
    ? [{ path, line: 1, problem: "a file is named after its one idea" }]
    : [];
  return [...names, ...imports, ...syntaxProblems(path, tokens)];
}

/** Files of the project that must be there before a file runs, for the search for cycles. */
export function runtimeImports(path: string, source: string): readonly string[] {
  return importsOf(tokensOf(source)).flatMap((one) =>
    one.types === "mixed" && one.when === "at-load" && one.from?.startsWith(".")
      ? [resolve(path, one.from)]
      : [],
  );
}

/** The first cycle found among files, as the path that closes it; null when there is none. */
export function findCycle(graph: ReadonlyMap<string, readonly string[]>): readonly string[] | null {
  const done = new Set<string>();
  function visit(file: string, trail: readonly string[]): readonly string[] | null {
    if (trail.includes(file)) return [...trail.slice(trail.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const next of graph.get(file) ?? []) {
      const cycle = visit(next, [...trail, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return null;
  }
  for (const file of graph.keys()) {
    const cycle = visit(file, []);
    if (cycle) return cycle;
  }
  return null;
}

function inScope(path: string, scope: string): boolean {
  if (scope.endsWith("/*")) return posix.dirname(path) === scope.slice(0, -2);
  return scope.endsWith("/") ? path.startsWith(scope) : path === scope;
}

function importProblem(path: string, row: Row, one: Import): readonly Finding[] {
  const at = { path, line: one.line };
  if (one.from === null) return [{ ...at, problem: "a computed import cannot be checked" }];
  const target = one.from.startsWith(".") ? resolve(path, one.from) : one.from;
  if (one.from.startsWith(".") && !one.from.endsWith(".ts"))
    return [{ ...at, problem: `${one.from} is no .ts file` }];
  const allowed = row.may.filter((may) => covers(may, target, path));
  if (allowed.length === 0) {
    const reason = FORBIDDEN_BUILTINS.get(target);
    return [{ ...at, problem: `${row.scope} may not import ${target}${reason ? `: ${reason}` : ""}` }];
  }
  if (allowed.some((may) => satisfies(may, one))) return [];
  const limit = allowed[0]?.only === "types" ? "as types" : `for ${String(allowed[0]?.only)}`;
  return [{ ...at, problem: `${row.scope} may import ${target} only ${limit}` }];
}

function covers(may: Allowance, target: string, from: string): boolean {
  if (may.what === target) return true;
  if (may.what === "node:*") return target.startsWith("node:") && !FORBIDDEN_BUILTINS.has(target);
  // nobody imports the composition root; "daemon/*" does not cover it either
  if (target === "daemon/main.ts" || target === "cli/main.ts") return false;
  return may.what.includes("/") && inScope(target, may.what) && target !== from;
}

function satisfies(may: Allowance, one: Import): boolean {
  if (may.only === undefined || one.types === "only") return true;
  return may.only !== "types" && one.names.length > 0 && one.names.every((name) => may.only?.includes(name));
}

function resolve(path: string, specifier: string): string {
  return posix.join(dirname(path), specifier);
}

function syntaxProblems(path: string, tokens: readonly Token[]): readonly Finding[] {
  const pure = PURE.some((part) => path.startsWith(part));
  return tokens.flatMap((token, at) => {
    if (token.kind !== "word") return [];
    const problem =
      problemAt(tokens, at, path) ?? (pure ? impurityAt(tokens, at, EXCEPTIONS.get(path) ?? []) : null);
    return problem === null ? [] : [{ path, line: token.line, problem }];
  });
}

function problemAt(tokens: readonly Token[], at: number, path: string): string | null {
  const [word, next, after] = textsAt(tokens, at);
  const member = tokens[at - 1]?.text === ".";
  if (word === "enum" && !member && after === "{") return "no enum: a state is a union";
  if (word === "export" && next === "default" && !path.endsWith(".d.ts")) return "no default export";
  if (word === "export" && next === "*") return "no re-exporting: a name is imported from where it lives";
  if (word === "eval" && !member && next === "(") return "no eval";
  if (word === "new" && next === "Function") return "no code from text";
  if (word === "require" && !member && next === "(") return "imports are static";
  // this one alone: an import of it loads undici (adapters/http-message.ts)
  const isHttp = tokens[at + 2]?.text === "node:http" && path === "daemon/adapters/http-message.ts";
  if (word === "getBuiltinModule" && !isHttp) return "imports are static";
  return null;
}

function impurityAt(tokens: readonly Token[], at: number, except: readonly string[]): string | null {
  const [word, next, after] = textsAt(tokens, at);
  if (tokens[at - 1]?.text === ".") return null;
  if (word === "Date" && next === "." && after === "now") return "pure code is given the time: Date.now";
  if (word === "Date" && tokens[at - 1]?.text !== "new" && next === "(")
    return "pure code is given the time: Date()";
  if (word === "new" && next === "Date" && !(after === "(" && tokens[at + 3]?.text !== ")")) {
    return "pure code is given the time: new Date()";
  }
  if (word === "Math" && next === "." && after === "random")
    return "pure code is given randomness: Math.random";
  if (word === "process" && (next === "." || next === "[")) return "pure code does not touch the process";
  if (TIMERS.includes(word) && !except.includes(word) && next !== ":")
    return `pure code has no timers and no I/O: ${word}`;
  return null;
}

function textsAt(tokens: readonly Token[], at: number): readonly [string, string, string] {
  // the text of a string is no code
  const [one, two, three] = [at, at + 1, at + 2].map((place) => {
    const token = tokens[place];
    return token === undefined || token.kind === "string" ? "" : token.text;
  });
  return [one ?? "", two ?? "", three ?? ""];
}
