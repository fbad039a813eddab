import { readFileSync } from "node:fs";
import { pkcs11Process } from "../../daemon/adapters/pkcs11-process.ts";

/** Stands for the daemon: opens a key on a token, says the pid of the token's process, and ends as it is told to. */
const [module = "", tokenLabel = "", how = ""] = process.argv.slice(2);
const source = pkcs11Process({ module, tokenLabel });
const { provider } = await source.create("kek-00112233445566aa", Buffer.from(process.env["TEST_PIN"] ?? ""));
const [child = ""] = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").split(" ");
process.stdout.write(`${child}\n`);
// a line: the token hangs from now on
process.stdin.once("data", () => {
  provider.wrap(Buffer.alloc(32)).catch(() => undefined);
  if (how === "exit") setTimeout(() => process.exit(0), 200);
  if (how === "drop") {
    provider.drop();
    process.exit(0);
  }
});
