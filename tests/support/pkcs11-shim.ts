import { spawnSync } from "node:child_process";
import { closeSync, openSync, readSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

/** What can be set in the shim, or read from it, in the order of pkcs11-shim.c; and as it is when it was built. */
const DIALS = {
  logins: 0,
  tries: 3,
  delay_ms: 0,
  stack_bytes: 0,
  encrypt_answer: 0,
  decrypt_answer: 0,
  decrypt_after: 0,
  extractable: 0,
  destroyed: 0,
  login_ms: 0,
  logout_ms: 0,
  close_ms: 0,
  closed: 0,
  crash: 0,
} as const;
type Dial = keyof typeof DIALS;

/** A module around another one, built into a directory: a token that can be made to misbehave, in whichever process it is loaded. */
export function buildPkcs11Shim(directory: string, around: string) {
  const path = join(directory, "shim.so");
  const state = join(directory, "shim.state");
  const source = join(import.meta.dirname, "pkcs11-shim.c");
  const flags = ["-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-Wall", "-Wextra", "-Werror"];
  const built = spawnSync("cc", [...flags, "-o", path, source, "-ldl"], {
    encoding: "utf8",
    timeout: 60_000,
  });
  if (built.status !== 0) throw new Error(`the shim does not compile: ${built.stderr}`);
  writeFileSync(state, Buffer.alloc(Object.keys(DIALS).length * 8));
  process.env["SHIM_MODULE"] = around;
  process.env["SHIM_STATE"] = state;
  const at = (dial: Dial) => Object.keys(DIALS).indexOf(dial) * 8;
  function withState<T>(work: (fd: number, bytes: Buffer) => T): T {
    const fd = openSync(state, "r+");
    try {
      return work(fd, Buffer.alloc(8));
    } finally {
      closeSync(fd);
    }
  }
  const set = (dial: Dial, value: number) =>
    withState((fd, bytes) => {
      bytes.writeBigInt64LE(BigInt(value));
      writeSync(fd, bytes, 0, 8, at(dial));
    });
  const reset = () => {
    for (const [dial, value] of Object.entries(DIALS)) set(dial as Dial, value);
  };
  reset();
  return {
    path,
    set,
    get: (dial: Dial): number =>
      withState((fd, bytes) => {
        readSync(fd, bytes, 0, 8, at(dial));
        return Number(bytes.readBigInt64LE());
      }),
    reset,
  };
}
