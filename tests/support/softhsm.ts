import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isOnHost } from "./setup.ts";

export const TOKEN = "boundary test";
/** Not in any file but the token's, and there not as it is. */
export const PIN = randomBytes(8).toString("hex");
const SO_PIN = "officer42";
const DIRECTORIES = ["/usr/lib", "/lib", "/usr/lib64", "/usr/local/lib"];

/** Where SoftHSM2's module is; null on a host without it. */
export function softHsmModule(): string | null {
  if (!isOnHost("softhsm2-util")) return null;
  const found = DIRECTORIES.map((directory) => join(directory, "softhsm/libsofthsm2.so")).find((path) =>
    existsSync(path),
  );
  return found ?? null;
}

/**
 * A token of its own in a temporary directory, as SoftHSM2 finds it in this process and its children from now on. The
 * host's own tokens are not touched.
 */
export function softHsm() {
  const home = mkdtempSync(join(tmpdir(), "boundary-token-"));
  const tokens = join(home, "tokens");
  const before = process.env["SOFTHSM2_CONF"];
  mkdirSync(tokens);
  const configuration = join(home, "softhsm2.conf");
  writeFileSync(
    configuration,
    `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
  );
  process.env["SOFTHSM2_CONF"] = configuration;

  function run(program: string, ...args: readonly string[]): string {
    const ran = spawnSync(program, args, { encoding: "utf8", timeout: 20_000 });
    if (ran.status !== 0) throw new Error(`${program} ended with ${ran.status}: ${ran.stdout}${ran.stderr}`);
    return ran.stdout;
  }
  function addToken(label = TOKEN): void {
    run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN);
  }
  addToken();
  return {
    home,
    tokens,
    configuration,
    addToken,
    /** pkcs11-tool as the token's user, from another process. */
    tool: (...args: readonly string[]) =>
      run(
        "pkcs11-tool",
        "--module",
        softHsmModule() ?? "",
        "--token-label",
        TOKEN,
        "--login",
        "--pin",
        PIN,
        ...args,
      ),
    /** As if it was pulled out. */
    removeTokens(): void {
      for (const name of readdirSync(tokens)) rmSync(join(tokens, name), { recursive: true });
    },
    remove(): void {
      if (before === undefined) delete process.env["SOFTHSM2_CONF"];
      else process.env["SOFTHSM2_CONF"] = before;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Processes with a token's module that this process has started. */
export function tokenProcesses(): readonly number[] {
  return textOf(`/proc/${process.pid}/task/${process.pid}/children`)
    .split(" ")
    .filter(Boolean)
    .map(Number)
    .filter((pid) => textOf(`/proc/${pid}/cmdline`).includes("pkcs11-child"));
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
