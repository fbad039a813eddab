import { expect, test } from "vitest";
import { parseAccounts, resolveRoles } from "../../daemon/core/accounts.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";

test("names become numbers and an unknown name gives nobody a role", () => {
  const users = parseAccounts(
    "root:x:0:0::/root:/bin/sh\nana:x:1001:1001::/home/ana:/bin/sh\nbroken\n:x:3:\nx:x:notanumber:\n",
  );
  const groups = parseAccounts("boundary:x:990:ana\n");
  const roles = ConfigSchema.parse({ roles: { admin: { users: ["ana", 1234, "ghost"] } } }).roles;
  expect(resolveRoles(roles, users, groups)).toEqual({
    table: {
      admin: { uids: [1001, 1234], gids: [] },
      operator: { uids: [], gids: [990] },
      readonly: { uids: [], gids: [] },
    },
    unknown: ["user ghost"],
  });
});
