import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOwnVkey } from "../../cli/own-state.ts";
import { readHead } from "../../daemon/adapters/head-file.ts";
import { segmentName } from "../../daemon/adapters/log-file.ts";
import { bytesOf, forge, linesOf, recordOf, testSigner } from "../audit/fixture.ts";
import type { DaemonHome } from "../support/daemon-process.ts";
import type { Ctl } from "./ctl.ts";
import type { Report } from "./report.ts";

type Damage = { readonly name: string; readonly to: (lines: readonly string[]) => Buffer };

/** Each is done to a copy of the log. `at` is a record in the middle. */
function damages(at: number): readonly Damage[] {
  return [
    { name: "one byte changed", to: (lines) => flip(bytesOf(lines), bytesOf(lines.slice(0, at)).length + 8) },
    { name: "a record deleted", to: (lines) => bytesOf(lines.toSpliced(at, 1)) },
    { name: "two records swapped", to: (lines) => bytesOf(swap(lines, at)) },
    { name: "the tail cut, at a seal", to: (lines) => bytesOf(cutAtSeal(lines)) },
    {
      name: "the log re-signed with another key",
      to: (lines) => bytesOf(forge(lines.map(recordOf), { from: 0, signer: testSigner("an attacker's") })),
    },
  ];
}

/** The last step of the story: the log of all of it, verified offline with the public key alone; then five forgeries. */
export async function verifyStory(report: Report, ctl: Ctl, home: DaemonHome): Promise<void> {
  const key = readOwnVkey(home.stateDir);
  const head = readHead(home.stateDir);
  if (key === null || head.kind !== "note") throw new Error("the daemon left no key or no head");
  const headFile = join(home.path, "head.note");
  writeFileSync(headFile, head.note);
  report.note(`the public key: ${key}`);

  const sound = await ctl.json("verify-log", home.logDir, "--key", key, "--head", headFile);
  report.saw(
    "the log of the whole story verifies",
    sound["verdict"] === "sound",
    `${sound["records"]} records, ${sound["seals"]} seals`,
  );

  const lines = linesOf(home.logDir);
  for (const damage of damages(Math.floor(lines.length / 2))) {
    const copy = join(home.path, `forged-${damage.name.replaceAll(/[^a-z]+/g, "-")}`);
    cpSync(home.logDir, copy, { recursive: true });
    mkdirSync(copy, { recursive: true });
    writeFileSync(join(copy, segmentName(0)), damage.to(lines));
    const { code, stdout } = await ctl.run("verify-log", copy, "--key", key, "--head", headFile, "--json");
    const bad = (
      JSON.parse(stdout) as { bad: { seq: number; file: string; byte: number; code: string } | null }
    ).bad;
    const named =
      bad !== null && Number.isInteger(bad.seq) && Number.isInteger(bad.byte) && bad.file.endsWith(".jsonl");
    report.saw(
      `${damage.name}: refused`,
      code === 1 && named,
      bad ? `${bad.code}, record ${bad.seq}, ${bad.file} byte ${bad.byte}` : "",
    );
  }
  report.saw(
    "the log itself was not touched by all this",
    readFileSync(join(home.logDir, segmentName(0))).equals(bytesOf(lines)),
  );
}

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

function swap(lines: readonly string[], at: number): readonly string[] {
  return [...lines.slice(0, at), lines[at + 1] ?? "", lines[at] ?? "", ...lines.slice(at + 2)];
}

/** The cruellest cut: what is left is a log with a good seal at its end. Only the remembered head tells. */
function cutAtSeal(lines: readonly string[]): readonly string[] {
  const seal = lines.findLastIndex(
    (line, index) => index < lines.length - 1 && recordOf(line).kind === "seal",
  );
  return lines.slice(0, seal + 1);
}
