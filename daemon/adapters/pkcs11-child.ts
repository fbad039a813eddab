// first: koffi takes no settings once it was used
import "./koffi-stacks.ts";
import { Socket } from "node:net";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import type { KekProvider } from "../ports.ts";
import { type Pkcs11Place, pkcs11Kek } from "./kek-pkcs11.ts";
import { createFrameCutter, type Frame, type Pkcs11Request, renderFrame } from "./pkcs11-wire.ts";
import { requirePowerless } from "./powerless.ts";
import { guardMemory } from "./process-guard.ts";

/**
 * The process with a token's module in it: somebody else's code, which may hang, crash or write where it likes. It holds what
 * is open; who asks waits as long as he likes, and ends us.
 */
requirePowerless();
// others of our user may be what the daemon keeps its secrets from
if (guardMemory().length > 0) process.exit(1);

const CHANNEL_FD = 3;
/** Who asks has one: the longest that a timer can be. */
const NO_DEADLINE_MS = 2_147_483_647;

const channel = new Socket({ fd: CHANNEL_FD, readable: true, writable: true });
const held = new Map<number, KekProvider>();
let source: ReturnType<typeof pkcs11Kek> | null = null;
let keys = 0;

/** The first frame says for which token, and what is to be destroyed on it. */
type Beginning = { readonly place: Pkcs11Place; readonly doomed: readonly string[] };
type Answer = { readonly head: object; readonly body?: Buffer };

function keep({ provider, spec }: { readonly provider: KekProvider; readonly spec: string }): Answer {
  const key = keys++;
  held.set(key, provider);
  return { head: { key, spec } };
}

function providerOf(key: number): KekProvider {
  const provider = held.get(key);
  if (provider === undefined) throw new BoundaryError("vault-locked", "using a KEK that is not open");
  return provider;
}

async function execute(
  from: ReturnType<typeof pkcs11Kek>,
  request: Pkcs11Request,
  body: Buffer,
): Promise<Answer> {
  switch (request.op) {
    case "create":
      return keep(await from.create(request.id, request.asks ? body : null));
    case "open":
      return keep(await from.open(request.id, request.spec, request.asks ? body : null));
    case "wrap":
      return { head: {}, body: await providerOf(request.key).wrap(body) };
    case "unwrap":
      return { head: {}, body: await providerOf(request.key).unwrap(body) };
    case "drop":
      held.get(request.key)?.drop();
      held.delete(request.key);
      await from.idle();
      return { head: {} };
    case "retire":
      await from.retire(request.id);
      return { head: {} };
  }
}

function say(head: object, body: Uint8Array = Buffer.alloc(0)): void {
  const frame = renderFrame(head, body);
  channel.write(frame, () => frame.fill(0));
}

async function answer(
  { n, ...request }: Pkcs11Request & { readonly n: number },
  body: Buffer,
): Promise<void> {
  try {
    if (source === null) throw new BoundaryError("internal", "asked before the beginning");
    const { head, body: secret } = await execute(source, request, body);
    say({ n, ok: true, ...head }, secret);
    secret?.fill(0);
  } catch (error) {
    const code = error instanceof BoundaryError ? error.code : "kek-unavailable";
    say({ n, ok: false, code, message: messageOf(error).slice(0, 4_000) });
  } finally {
    body.fill(0);
  }
}

/** As it is told by who asks, who puts the code before it. */
function messageOf(error: unknown): string {
  return error instanceof BoundaryError && error.cause === undefined
    ? error.message
    : renderErrorChain(error);
}

function take({ head, body }: Frame): void {
  if (source !== null) return void answer(head as Pkcs11Request & { n: number }, body);
  const { place, doomed } = head as Beginning;
  source = pkcs11Kek(place, NO_DEADLINE_MS, doomed);
}

const cutter = createFrameCutter();
channel.on("data", (chunk: Buffer) => {
  const frames = cutter.push(chunk);
  if (frames === "dead") process.exit(1);
  for (const frame of frames) take(frame);
});
// who asked is gone
channel.on("error", () => process.exit(0));
channel.on("close", () => process.exit(0));
