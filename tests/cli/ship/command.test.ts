import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { boundaryctl, type Ran } from "../../support/boundaryctl.ts";
import { evenLog, putLog, shipDirectory, textOf } from "../../support/real-log.ts";
import { type SampleLog, sampleLog } from "../../support/sample-log.ts";
import { isOnHost } from "../../support/setup.ts";
import { makeCertificates } from "../../support/tls-files.ts";
import { startReceiver } from "../../support/tls-receiver.ts";

const LOG = await evenLog({ segments: 2, batches: 3, perBatch: 3 });
const base = shipDirectory();
const logDir = join(base.path, "log");
let sample: SampleLog;
beforeAll(async () => {
  putLog(logDir, LOG);
  sample = await sampleLog(3);
});
afterAll(() => {
  sample.remove();
  base.remove();
});

const ship = (...args: string[]): Promise<Ran> => boundaryctl(["log", "ship", ...args]);
const here = (cursor: string): readonly string[] => [
  "--dir",
  logDir,
  "--key",
  LOG.vkey,
  "--cursor",
  join(base.path, cursor),
];

describe("log ship", () => {
  test("to a file, once: all lines; again: nothing", async () => {
    const out = join(base.path, "copy");
    for (const run of [1, 2]) {
      expect(await ship("--to", `file:${out}`, "--once", ...here("c1"))).toMatchObject({ code: 0 });
      expect([run, readFileSync(out, "utf8")]).toEqual([run, textOf(LOG.lines)]);
    }
  });

  test("--json is one event a line", async () => {
    const ran = await ship("--to", `file:${join(base.path, "copy-2")}`, "--once", "--json", ...here("c2"));
    const events = ran.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    expect(events).toEqual([
      { event: "from-start", why: "there is no cursor" },
      { event: "confirmed", through: LOG.lines.length - 1, records: LOG.lines.length },
    ]);
  });

  test("a log that the daemon's own appender wrote, key and cursor in the state directory, and back", async () => {
    const [copy, back] = [join(base.path, "copy-3"), join(base.path, "back-3")];
    const args = ["--to", `file:${copy}`, "--dir", sample.logDir, "--state-dir", sample.stateDir, "--once"];
    expect(await ship(...args)).toMatchObject({ code: 0 });
    expect((await ship(...args)).stderr).toContain("from record ");
    expect((await boundaryctl(["log", "unship", copy, "--out", back])).code).toBe(0);
    const head = `${sample.head.size} ${sample.head.root}`;
    expect((await boundaryctl(["verify-log", back, "--key", sample.vkey, "--head", head])).code).toBe(0);
  });

  test("the wrong key ships nothing", async () => {
    const out = join(base.path, "copy-4");
    const ran = await ship(
      "--to",
      `file:${out}`,
      "--once",
      "--dir",
      logDir,
      "--key",
      sample.vkey,
      "--cursor",
      `${out}.c`,
    );
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("another key");
    expect(() => readFileSync(out)).toThrow("ENOENT");
  });

  test.skipIf(!isOnHost("openssl"))(
    "--insecure warns on every start; without it the stranger is refused (needs openssl)",
    async () => {
      const pem = makeCertificates(base.path);
      const receiver = await startReceiver(pem.selfSigned);
      try {
        const to = ["--to", `tls://localhost:${receiver.port}`, "--once", "--ca", pem.ca, ...here("c5")];
        const refused = await ship(...to);
        expect(refused.code).toBe(1);
        expect(refused.stderr).toContain("code: ship-untrusted");
        expect(receiver.messages).toEqual([]);
        for (const _ of [1, 2]) {
          const ran = await ship(...to, "--insecure");
          expect(ran.code).toBe(0);
          expect(ran.stderr).toContain("WARNING: --insecure");
        }
        expect(receiver.messages.map((one) => one.message)).toEqual(LOG.lines);
        expect(receiver.messages[0]).toMatchObject({ appName: "boundary-daemon", msgId: "log.genesis" });
      } finally {
        await receiver.stop();
      }
    },
  );

  const empty = join(base.path, "empty.pem");
  const wrong: readonly (readonly [name: string, args: readonly string[]])[] = [
    ["no --to", ["--once"]],
    ["--to without TLS", ["--to", "tcp://a:1"]],
    ["both --follow and --once", ["--to", "tls://a", "--follow", "--once"]],
    ["a certificate without its key", ["--to", "tls://a", "--cert", "x"]],
    ["an authority that is no PEM", ["--to", "tls://a", "--ca", empty]],
    ["an authority that is not there", ["--to", "tls://a", "--ca", `${empty}.not`]],
    ["never to confirm", ["--to", "tls://a", "--confirm-seconds", "0"]],
    ["an option that there is not", ["--to", "tls://a", "--no-such"]],
    ["a key that is none", ["--to", "tls://a", "--key", "x"]],
  ];
  test.each(wrong)("usage: %s", async (_name, args) => {
    writeFileSync(empty, "");
    expect(await ship("--key", LOG.vkey, "--dir", logDir, ...args)).toMatchObject({ code: 2 });
  });
});
