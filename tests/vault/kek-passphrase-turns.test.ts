import { expect, test, vi } from "vitest";
import { passphraseKek } from "../../daemon/vault/kek-passphrase.ts";

const seen = vi.hoisted(() => ({ now: 0, most: 0, runs: 0 }));
vi.mock("node:crypto", async (original) => {
  const real = await original<typeof import("node:crypto")>();
  const argon2: typeof real.argon2 = (algorithm, parameters, callback) => {
    seen.runs++;
    seen.most = Math.max(seen.most, ++seen.now);
    real.argon2(algorithm, parameters, (error, derived) => {
      seen.now--;
      callback(error, derived);
    });
  };
  return { ...real, argon2 };
});

// workspaces are unlocked side by side, and each derivation takes 64 MiB or what its file says
test("one passphrase is derived at a time, whatever comes of another", async () => {
  const source = passphraseKek({ memoryKiB: 1_024, passes: 1, parallelism: 1 });
  const word = () => Buffer.from("a passphrase");
  const made = await Promise.all(["a", "b", "c"].map((id) => source.create(id, word())));
  const opened = await Promise.allSettled([
    ...made.map(({ spec }) => source.open("a", spec, word())),
    source.open("a", made[0]?.spec ?? "", Buffer.from("another")),
    source.open("a", made[0]?.spec ?? "", word()),
  ]);
  expect(opened.map(({ status }) => status)).toEqual([
    "fulfilled",
    "fulfilled",
    "fulfilled",
    "rejected",
    "fulfilled",
  ]);
  expect([seen.runs, seen.most]).toEqual([8, 1]);
});
