import { describe, expect, test } from "vitest";
import { mayAct, roleOf } from "../../daemon/core/roles.ts";

const table = {
  admin: { uids: [500], gids: [] },
  operator: { uids: [], gids: [600] },
  readonly: { uids: [700], gids: [700] },
};
const peer = (uid: number, groups: number[] = []) => ({ pid: 1, uid, gid: groups[0] ?? uid, groups });

describe("roleOf", () => {
  test.each([
    ["root", peer(0), "admin"],
    ["the daemon's own user", peer(42), "admin"],
    ["a listed user", peer(500), "admin"],
    ["a member of a listed group", peer(1000, [1000, 600]), "operator"],
    ["a listed reader", peer(700), "readonly"],
    ["a stranger", peer(1000, [1000]), "none"],
  ])("%s", (_name, who, role) => {
    expect(roleOf(who, table, 42)).toBe(role);
  });

  test("a role includes the ones below it and none above", () => {
    expect(mayAct("operator", "readonly")).toBe(true);
    expect(mayAct("operator", "admin")).toBe(false);
    expect(mayAct("none", "readonly")).toBe(false);
  });
});
