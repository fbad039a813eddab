import { describe, expect, test } from "vitest";
import { listTables } from "../../daemon/core/nft-tables.ts";

/** nft with these tables, the first of which goes when `goes` calls have been made. */
function nft(tables: readonly string[], goes = Number.POSITIVE_INFINITY) {
  let calls = 0;
  return (command: string) => {
    calls += 1;
    const there = calls > goes ? tables.slice(1) : tables;
    if (command === "list tables")
      return { ok: true, output: there.map((name) => `table ${name}\n`).join(""), complaint: "" };
    const name = command.replace("list table ", "");
    const ok = there.includes(name);
    return { ok, output: ok ? `table ${name} {\n}\n` : "", complaint: ok ? "" : "No such file or directory" };
  };
}

describe("listTables", () => {
  test("gives ours, in every family, and nothing of others", () => {
    const listing = listTables(
      nft(["ip boundary", "arp boundary", "inet filter", "inet boundary", "inet boundary2"]),
    );
    expect(listing).toBe("table inet boundary {\n}\n\ntable arp boundary {\n}\n");
    expect(listTables(nft([]))).toBe("");
  });

  test("one that goes between the two questions is asked for again", () => {
    expect(listTables(nft(["inet boundary", "arp boundary"], 1))).toBe("table arp boundary {\n}\n");
  });

  test("nft's refusal is an error with its reason", () => {
    const refuses = () => ({ ok: false, output: "", complaint: "Operation not permitted\n" });
    expect(() => listTables(refuses)).toThrow(expect.objectContaining({ code: "nft-failed" }));
  });
});
