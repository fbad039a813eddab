import { describe, expect, test } from "vitest";
import { createProbing, probingTripwires } from "../../daemon/core/probing.ts";

const SETTINGS = { denials: 3, windowMs: 6_000, action: "note" } as const;
const ANA = { uid: 1000, token: null };

describe("probing", () => {
  test("so many denials within the window are told once, and again in the next one", () => {
    const probing = createProbing(SETTINGS);
    expect([0, 10].map((nowMs) => probing.denied(ANA, nowMs))).toEqual([null, null]);
    const facts = { uid: "1000", tokenId: "", denials: "3", milliseconds: "6000" };
    expect(probing.denied(ANA, 20)).toEqual(facts);
    for (let nowMs = 21; nowMs < 6_020; nowMs += 100) expect(probing.denied(ANA, nowMs)).toBeNull();
    expect(probing.denied(ANA, 6_020)).toEqual(facts);
  });

  test("fewer are none, however long it goes on; and a token is another caller than its user", () => {
    const probing = createProbing(SETTINGS);
    for (let n = 0; n < 100; n++) expect(probing.denied(ANA, n * 3_200)).toBeNull();
    for (const token of ["a", "b", "c"]) expect(probing.denied({ uid: 1000, token }, 330_000)).toBeNull();
  });

  test("0 denials: nobody is watched", () => {
    const probing = createProbing({ ...SETTINGS, denials: 0 });
    for (let n = 0; n < 100; n++) expect(probing.denied(ANA, 0)).toBeNull();
  });

  test("whoever comes under many names is found under that of the others", () => {
    const probing = createProbing(SETTINGS);
    const told = [];
    for (let n = 0; n < 100_000; n++) {
      const facts = probing.denied({ uid: 1000, token: `t${n}` }, 0);
      if (facts) told.push(n);
    }
    expect(told).toEqual([1_026]);
  });

  test("the configured action is a tripwire beside the shipped one", () => {
    expect(probingTripwires(SETTINGS)).toEqual([]);
    expect(probingTripwires({ ...SETTINGS, action: { trip: "AIRGAP" } })).toMatchObject([
      { on: "peer.probing", action: { kind: "trip", to: "AIRGAP" } },
    ]);
  });
});
