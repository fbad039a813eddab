import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROWS } from "../cli/commands.ts";
import { ERRORS } from "../daemon/core/errors.ts";
import { MODES } from "../daemon/core/mode.ts";
import { MAX_FRAME_BYTES, PARAMS } from "../daemon/protocol/messages.ts";
import { tableBelow } from "./support/dependency-rules.ts";
import { isOnHost } from "./support/setup.ts";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const PROTOCOL = read("docs/PROTOCOL.md");
const MAN = readdirSync(join(ROOT, "docs/man"));

/** The first table of a section: verbs come before the table of `check`. */
const codes = (section: string, heading: string) =>
  tableBelow(section, heading).map(([cell = "", rest = ""]) => [cell.replaceAll("`", ""), rest] as const);

describe("docs/PROTOCOL.md", () => {
  test("names every verb, and none that is not", () => {
    const section = PROTOCOL.split("### check")[0] ?? "";
    expect(new Set(codes(section, "Verbs").map(([verb]) => verb))).toEqual(new Set(Object.keys(PARAMS)));
  });

  test("names every error code with all there is to know of it, and none that is not", () => {
    const rows = tableBelow(PROTOCOL, "Errors");
    const told = Object.entries(ERRORS).map(([code, { hint, category, severity, lasts }]) => [
      `\`${code}\``,
      hint,
      category,
      severity,
      lasts === "transient" ? "transient" : "",
    ]);
    expect(rows).toEqual(told);
  });

  test("states the limits and the modes as they are", () => {
    expect(PROTOCOL).toContain(`${MAX_FRAME_BYTES.toLocaleString("en-US")} bytes`);
    expect(PROTOCOL).toContain(MODES.map((mode) => `\`${mode}\``).join(", "));
  });
});

describe("README.md", () => {
  test("begins with the two commands, and names only scripts that exist", () => {
    const readme = read("README.md");
    const commands = [...readme.matchAll(/^ {4}(.+)$/gm)].map((hit) => hit[1]);
    expect(commands.slice(0, 2)).toEqual(["npm ci && npm run demo", "npm ci && npm test"]);
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const named = [...readme.matchAll(/npm run ([a-z]+)/g)].map((hit) => hit[1] ?? "");
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});

describe("the documents", () => {
  test.each(["README.md", "SECURITY.md"])("%s links to files that exist", (path) => {
    const links = [...read(path).matchAll(/\]\(([^)#:]+)\)/g)].map((hit) => hit[1] ?? "");
    for (const link of links) expect(() => read(link)).not.toThrow();
  });

  test("boundaryctl.1 names every command", () => {
    const page = read("docs/man/boundaryctl.1");
    for (const { word } of ROWS) expect(page).toMatch(new RegExp(`^\\.It Cm ${word}\\b`, "m"));
  });

  test.skipIf(!isOnHost("groff")).each(MAN)("%s is well-formed (needs groff)", (name) => {
    const ran = spawnSync("groff", ["-mdoc", "-ww", "-Tutf8", "-P-cbou", join(ROOT, "docs/man", name)], {
      encoding: "utf8",
    });
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toContain("EXIT STATUS");
  });
});
