import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe } from "vitest";
import { pkcs11Process } from "../../daemon/adapters/pkcs11-process.ts";
import { PIN, softHsm, softHsmModule, TOKEN, tokenProcesses } from "../support/softhsm.ts";
import { keepKeysWith } from "../support/vault-host.ts";

const MODULE = softHsmModule() ?? "";

/** Everything that holds of a vault with its keys in files, with keys that are on a token. */
describe.skipIf(MODULE === "")("a vault with its keys on a token (needs softhsm2)", async () => {
  let token: ReturnType<typeof softHsm>;
  beforeAll(() => {
    token = softHsm();
  });
  // a token of its own for each: a test's hosts leave keys behind, as those of a file go with their directory
  beforeEach(() => {
    for (const pid of tokenProcesses()) process.kill(pid, "SIGKILL");
    token.remove();
    token = softHsm();
    const pinFile = join(token.home, "pin");
    writeFileSync(pinFile, PIN, { mode: 0o600 });
    keepKeysWith({
      source: pkcs11Process({ module: MODULE, tokenLabel: TOKEN, pinFile }),
      ids: () => token.tool("--list-objects", "--type", "secrkey").match(/kek-[0-9a-f]+/g) ?? [],
    });
  });
  afterAll(() => token.remove());
  await import("./vault.test.ts");
});
