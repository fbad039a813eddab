import { describe, expect, test } from "vitest";
import type { Entry } from "../daemon/audit/record.ts";
import { NO_HOLD_MEMORY } from "../daemon/core/held.ts";
import type { History } from "../daemon/core/start.ts";
import { lastKnown } from "../daemon/last-known.ts";

type Parts = Parameters<typeof lastKnown>[0];
const ended: Extract<History, { kind: "clean" }> = {
  kind: "clean",
  wanted: "AIRGAP",
  epoch: 3,
  frozen: "",
  held: NO_HOLD_MEMORY,
};
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** What the log gets, and what comes of it. */
async function known(history: History, over: Partial<Parts> & { readonly logFails?: true } = {}) {
  const written: Entry[] = [];
  const log = {
    append: (entry: Entry) => {
      written.push(entry);
      return { durable: over.logFails ? Promise.reject(new Error("ENOSPC")) : Promise.resolve() };
    },
    close: async () => undefined,
  };
  const reopen = async () => ({ opened: { findings: [] }, log });
  const found = await lastKnown({
    history: async () => history,
    reopen: reopen as unknown as Parts["reopen"],
    initialMode: "RESTRICTED",
    hold: { firstStart: "enforce", parameter: true, boot: "b2" },
    opLog: quiet,
    ...over,
  });
  return { found, written };
}

describe("the boot parameter without a daemon", () => {
  test("opens when its record is on disk, which names what lies beneath", async () => {
    const { found, written } = await known({ ...ended, held: { ...NO_HOLD_MEMORY, hold: "shadow" } });
    expect(found).toMatchObject({ mode: "AIRGAP", hold: "released" });
    expect(written.map(({ data }) => data)).toEqual([
      expect.objectContaining({ from: "shadow", to: "released", lasts: "boot", base: "shadow" }),
    ]);
  });

  test("is over when a person enforced in this boot", async () => {
    const { found, written } = await known({ ...ended, held: { ...NO_HOLD_MEMORY, parameterBoot: "b2" } });
    expect(found.hold).toBe("enforcing");
    expect(written).toEqual([]);
  });

  test.each<[string, History | null, { readonly logFails?: true }]>([
    ["that takes no record", ended, { logFails: true }],
    ["that was tampered with", { kind: "broken", why: "prev" }, {}],
    ["that cannot be read", { kind: "unreadable", why: "EACCES" }, {}],
    ["that throws", null, {}],
  ])("opens nothing beside a log %s", async (_name, history, over) => {
    const read = history === null ? { history: async () => Promise.reject(new Error("EIO")) } : {};
    expect((await known(history ?? ended, { ...over, ...read })).found.hold).toBe("enforcing");
  });
});
