import "../../daemon/adapters/koffi-stacks.ts";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { pkcs11Kek } from "../../daemon/adapters/kek-pkcs11.ts";
import { PIN, softHsm, softHsmModule, TOKEN } from "../support/softhsm.ts";

const ID = "kek-0123456789abcdef";
const DEK = Buffer.alloc(32, 5);
let token: ReturnType<typeof softHsm>;
const source = () => pkcs11Kek({ module: softHsmModule() ?? "", tokenLabel: TOKEN });
beforeEach(() => { token = softHsm(); });
afterEach(() => token.remove());

describe("x", () => {
  test("a", async () => {
    const s = source();
    const { provider, spec } = await s.create(ID, Buffer.from(PIN));
    console.log(spec);
    const w = await provider.wrap(DEK);
    console.log(w.toString("hex"), await provider.unwrap(w));
    const bad = Buffer.from(w); bad[20]! ^= 1;
    await provider.unwrap(bad).catch((e) => console.log(e));
    await s.open(ID, spec, Buffer.from("wrong")).catch((e) => console.log(e));
    console.log(token.tool("--list-objects"));
    provider.drop();
    await s.open(ID, spec, Buffer.from("wrong")).catch((e) => console.log(e));
    const again = await s.open(ID, spec, Buffer.from(PIN));
    console.log(await again.provider.unwrap(w));
    token.removeTokens();
    await again.provider.unwrap(w).then(console.log, (e) => console.log("gone", e));
    again.provider.drop();
    await s.open(ID, spec, Buffer.from(PIN)).then(console.log, (e) => console.log("gone", e));
  });
});
