import { randomBytes } from "node:crypto";
import { BoundaryError } from "../core/errors.ts";
import type { KekSource } from "../ports.ts";
import { KEK_BYTES, localKek } from "../vault/kek-local.ts";
import { findProgram, runForBytes } from "./run.ts";

const PROGRAM = "systemd-creds";
const LIMITS = { deadlineMs: 10_000, maxOutputBytes: 16_384 } as const;
/** Of a credential, in base64. */
const SEALED = /^[A-Za-z0-9+/\n]{64,16384}={0,2}\n*$/;

type Run = typeof runForBytes;

/**
 * KEKs sealed by systemd-creds: to this host's own secret, and to its TPM where it has one. What it gives back stands in
 * the keyring, and is of no use on another host. It takes root, or a systemd that answers others (256 and later).
 * `run`: another way to start the program, for tests.
 */
export function systemdKek(run: Run = runForBytes): KekSource {
  return {
    kind: "systemd-creds",
    asks: false,
    obstacle: () => (findProgram(PROGRAM) === null ? `${PROGRAM} is not installed` : ""),
    async create(id) {
      const key = randomBytes(KEK_BYTES);
      try {
        const sealed = await asked(run, `sealing the key ${id}`, ["encrypt", `--name=${id}`, "-", "-"], key);
        const spec = sealed.toString("latin1");
        if (!SEALED.test(spec))
          throw new BoundaryError("kek-unavailable", `sealing the key ${id}: no credential came back`);
        return { provider: localKek(id, key), spec };
      } catch (error) {
        key.fill(0);
        throw error;
      }
    },
    async open(id, spec) {
      if (!SEALED.test(spec))
        throw new BoundaryError("kek-unavailable", `unsealing the key ${id}: it is no credential`);
      const key = await asked(
        run,
        `unsealing the key ${id}`,
        ["decrypt", `--name=${id}`, "-", "-"],
        Buffer.from(spec),
      );
      if (key.length === KEK_BYTES) return { provider: localKek(id, key), spec };
      key.fill(0);
      throw new BoundaryError("kek-unavailable", `unsealing the key ${id}: it has a wrong length`);
    },
    retire: async () => undefined, // it was in the keyring alone
  };
}

async function asked(run: Run, doing: string, args: readonly string[], input: Buffer): Promise<Buffer> {
  let result: Awaited<ReturnType<Run>>;
  try {
    result = await run(PROGRAM, args, { ...LIMITS, input });
  } catch (cause) {
    throw new BoundaryError("kek-unavailable", doing, { cause });
  }
  if (result.code === 0) return result.stdout;
  result.stdout.fill(0);
  const said = result.stderr.trim().split("\n").at(-1) ?? "";
  throw new BoundaryError("kek-unavailable", `${doing}: ${PROGRAM} ended with ${result.code}: ${said}`);
}
