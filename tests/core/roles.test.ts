import { describe, expect, test } from "vitest";
import { mayAct, rightsOf } from "../../daemon/core/roles.ts";

const table = {
  admin: { uids: [500], gids: [] },
  operator: { uids: [], gids: [600] },
  readonly: { uids: [700], gids: [700] },
  auditor: { uids: [800], gids: [801] },
};
const peer = (uid: number, groups: number[] = []) => ({ pid: 1, uid, gid: groups[0] ?? uid, groups });

describe("rightsOf", () => {
  test.each([
    ["root", peer(0), "admin"],
    ["the daemon's own user", peer(42), "admin"],
    ["a listed user", peer(500), "admin"],
    ["a member of a listed group", peer(1000, [1000, 600]), "operator"],
    ["a listed reader", peer(700), "readonly"],
    ["a stranger", peer(1000, [1000]), "none"],
  ])("%s", (_name, who, role) => {
    expect(rightsOf(who, table, 42)).toEqual({ role, auditor: false });
  });

  test("an auditor has no role by that, and with another one he has both", () => {
    expect(rightsOf(peer(800), table, 42)).toEqual({ role: "none", auditor: true });
    expect(rightsOf(peer(1000, [801, 600]), table, 42)).toEqual({ role: "operator", auditor: true });
  });
});

describe("mayAct", () => {
  const held = (role: "none" | "readonly" | "operator" | "admin", auditor = false) => ({ role, auditor });

  test("a role includes the ones below it and none above", () => {
    expect(mayAct(held("operator"), { role: "readonly" })).toBe(true);
    expect(mayAct(held("operator"), { role: "admin" })).toBe(false);
    expect(mayAct(held("none"), { role: "readonly" })).toBe(false);
  });

  test("what takes an auditor is for admin and auditors, and for nobody between", () => {
    const needed = { role: "admin", auditor: true } as const;
    expect(mayAct(held("none", true), needed)).toBe(true);
    expect(mayAct(held("admin"), needed)).toBe(true);
    expect(mayAct(held("operator"), needed)).toBe(false);
    expect(mayAct(held("readonly"), needed)).toBe(false);
  });

  test("an auditor may nothing that does not say so", () => {
    for (const role of ["readonly", "operator", "admin"] as const)
      expect(mayAct(held("none", true), { role })).toBe(false);
  });
});
