import { expect, test } from "vitest";
import { createAdmission } from "../../daemon/protocol/admission.ts";

test("a user at the limit keeps nobody else out", () => {
  const admission = createAdmission({ maxConnections: 3, maxConnectionsPerUid: 2 });
  expect([1, 1, 1, 2, 2].map((uid) => admission.admit(uid).ok)).toEqual([true, true, false, true, false]);
  expect(admission.count()).toBe(3);
});

test("what was refused is not counted, and a release makes room", () => {
  const admission = createAdmission({ maxConnections: 2, maxConnectionsPerUid: 1 });
  expect(admission.admit(1).ok).toBe(true);
  expect(admission.admit(1)).toMatchObject({ ok: false, code: "too-many-connections" });
  admission.release(1);
  expect(admission.count()).toBe(0);
  expect(admission.admit(1).ok).toBe(true);
});
