import { expect, test } from "vitest";
import { parseAccounts, resolveRoles } from "../../daemon/core/accounts.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";

test("names become numbers and an unknown name gives nobody a role", () => {
  const users = parseAccounts(
    "root:x:0:0::/root:/bin/sh\nana:x:1001:1001::/home/ana:/bin/sh\nbroken\n:x:3:\nx:x:notanumber:\n",
  );
  const groups = parseAccounts("boundary:x:990:ana\n");
  const config = ConfigSchema.parse({ roles: { admin: { users: ["ana", 1234, "ghost"] } } });
  expect(resolveRoles(config, users, groups)).toEqual({
    table: {
      admin: { uids: [1001, 1234], gids: [] },
      operator: { uids: [], gids: [990] },
      readonly: { uids: [], gids: [] },
      auditor: { uids: [], gids: [] },
    },
    unknown: ["user ghost"],
    socketGroup: 990,
  });
});

test.each([
  ["the operators' first", {}, 990],
  ["the readers', without operators", { roles: { operator: {}, readonly: { groups: [12] } } }, 12],
  ["the auditors', without both", { roles: { operator: {}, auditor: { groups: [13] } } }, 13],
  ["the named one before all", { socket: { group: "callers" } }, 991],
  ["nobody's, when the named one does not exist", { socket: { group: "ghosts" } }, null],
  ["nobody's, without any", { roles: { operator: {} } }, null],
])("the group that may connect is %s", (_name, config, group) => {
  const groups = parseAccounts("boundary:x:990:\ncallers:x:991:\n");
  const { socketGroup, unknown } = resolveRoles(ConfigSchema.parse(config), new Map(), groups);
  expect(socketGroup).toBe(group);
  expect(unknown).toEqual(group === null && "socket" in config ? ["group ghosts"] : []);
});
