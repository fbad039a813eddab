import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { renderLine } from "../../daemon/audit/line.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { noGrants } from "../../daemon/core/grants.ts";
import { chunksOf, recordOf, testSigner } from "./fixture.ts";

/** Frozen bytes: tests/vectors/log-v1.* never change. A new format adds files. */
const bytes = readFileSync("tests/vectors/log-v1.jsonl");
const note = readFileSync("tests/vectors/log-v1.note", "utf8");
const VKEY = "boundary-daemon/vector-1+3a49790f+AWA6Zxkan4LwIfKVuue3bQzgVmkZXjTNP/SZy7vDK6uD";

test("a log of format 1 verifies as it always did", async () => {
  const verdict = await verifyLog(chunksOf({ "log-v1.jsonl": bytes }), { vkey: VKEY, head: note });
  expect(verdict).toMatchObject({
    verdict: "sound",
    records: 17,
    seals: 6,
    firstAt: "2026-01-02T03:04:05.000Z",
    lastAt: "2026-01-02T03:04:05.010Z",
    size: 16,
    root: "281c71f127aafc61e7fc095799a5dec7a592b18144477e0b926df0a61c62010a",
    bad: null,
    gaps: [{ seq: 14, data: { changes: ["/etc/hosts"], why: "stopped" } }],
    warnings: [],
  });
  expect(verdict.state).toEqual({
    wanted: "LOCKDOWN",
    epoch: 3,
    frozen: "the wall clock moved by 7000 ms (step)",
    stop: "clean",
    lastAt: "2026-01-02T03:04:05.010Z",
    lastSeq: 16,
    lastBoot: "5a0e6c1e-0000-4000-8000-00000000b007",
    lastMono: "1767323045011000000",
    baselineDigest: "9f".repeat(32),
    firedByTripwire: { net: 1 },
    usb: {},
    policies: {},
    limits: {},
    approvals: [],
    started: 1,
    unreadable: "",
    // it is of a time before there were holds
    hold: "enforcing",
    parameterBoot: "",
    releasedBoot: "",
    // and tokens
    grants: noGrants(),
  });
});

test("its lines are what we would write today", () => {
  for (const line of bytes.toString("utf8").split("\n").slice(0, -1)) {
    const record = recordOf(line);
    expect(renderLine(record, renderCanonical(record.data))).toBe(line);
  }
});

test("its key is the one the test derives, and its text is read as it was meant", () => {
  expect(testSigner("boundary-daemon log vector 1", "boundary-daemon/vector-1").vkey).toBe(VKEY);
  const changed = recordOf(bytes.toString("utf8").split("\n")[5] ?? "");
  expect(changed.data["reason"]).toBe('Prüfung "Ω"\n\u0001 🙂 \\ </script>');
});
