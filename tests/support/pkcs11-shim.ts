import { spawnSync } from "node:child_process";
import { join } from "node:path";
import koffi from "koffi";

/** What can be set in the shim, or read from it: see pkcs11-shim.c. */
type Dial =
  | "logins"
  | "tries"
  | "delay_ms"
  | "stack_bytes"
  | "encrypt_answer"
  | "decrypt_answer"
  | "decrypt_after"
  | "extractable"
  | "destroyed";

const USUAL: Readonly<Record<Dial, number>> = {
  logins: 0,
  tries: 3,
  delay_ms: 0,
  stack_bytes: 0,
  encrypt_answer: 0,
  decrypt_answer: 0,
  decrypt_after: 0,
  extractable: 0,
  destroyed: 0,
};

/** A module around another one, built into a directory: a token that can be made to misbehave. */
export function buildPkcs11Shim(directory: string, around: string) {
  const path = join(directory, "shim.so");
  const source = join(import.meta.dirname, "pkcs11-shim.c");
  const flags = ["-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-Wall", "-Wextra", "-Werror"];
  const built = spawnSync("cc", [...flags, "-o", path, source, "-ldl"], {
    encoding: "utf8",
    timeout: 60_000,
  });
  if (built.status !== 0) throw new Error(`the shim does not compile: ${built.stderr}`);
  process.env["SHIM_MODULE"] = around;
  const library = koffi.load(path);
  const set = (dial: Dial, value: number) => koffi.encode(library.symbol(`shim_${dial}`), "long", value);
  return {
    path,
    set,
    get: (dial: Dial): number => Number(koffi.decode(library.symbol(`shim_${dial}`), "long")),
    /** As it was when it was built. */
    reset(): void {
      for (const [dial, value] of Object.entries(USUAL)) set(dial as Dial, value);
    },
  };
}
