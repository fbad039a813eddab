import { appendFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { boundaryctl, type Running, startBoundaryctl } from "../support/boundaryctl.ts";
import { evenLog, putLog, type RealLog, shipDirectory, textOf } from "../support/real-log.ts";
import { HAS_RSYSLOG, type Rsyslog, rsyslogIn } from "../support/rsyslog.ts";
import { type Certificates, makeCertificates } from "../support/tls-files.ts";

const FLOOD = 100_000;

describe.skipIf(!HAS_RSYSLOG)(
  "a real rsyslog, set up as docs/SHIPPING.md says (needs rsyslog, rsyslog-gnutls, openssl)",
  { timeout: 120_000 },
  () => {
    let base: ReturnType<typeof shipDirectory>;
    let pem: Certificates;
    let server: Rsyslog;
    let logDir: string;
    let running: Running[] = [];

    beforeEach(async () => {
      base = shipDirectory();
      logDir = join(base.path, "log");
      pem = makeCertificates(base.path);
      server = await rsyslogIn(base.path, pem);
      await server.start();
    });
    afterEach(async () => {
      for (const one of running) one.child.kill("SIGKILL");
      await Promise.all(running.map((one) => one.done));
      running = [];
      await server.stop("SIGKILL");
      base.remove();
    });

    const argsFor = (log: RealLog, ...more: string[]): string[] => {
      const tls = ["--ca", pem.ca, "--cert", pem.client.cert, "--key-file", pem.client.key];
      const where = ["--dir", logDir, "--cursor", join(base.path, "cursor"), "--key", log.vkey];
      return ["log", "ship", "--to", `tls://localhost:${server.port}`, ...tls, ...where, ...more];
    };

    async function takeBack(log: RealLog): Promise<{ unship: unknown; code: number | null; text: string }> {
      const out = join(base.path, "back");
      rmSync(out, { force: true });
      const unshipped = await boundaryctl(["log", "unship", server.file, "--out", out, "--json"]);
      expect(unshipped.stderr).toBe("");
      const verified = await boundaryctl(["verify-log", out, "--key", log.vkey]);
      return { unship: JSON.parse(unshipped.stdout), code: verified.code, text: readFileSync(out, "utf8") };
    }

    test("the log comes back byte for byte and verifies: long lines, all of Unicode, DEL", async () => {
      const full = 65_535 - 260; // and the rest of the record
      const text = (seq: number): string =>
        seq === 9 ? "x".repeat(full) : `größer \u{1f512} \u2028 \u007f\u0085 ${seq} %msg% \\n`;
      const log = await evenLog({
        segments: 1,
        batches: 8,
        perBatch: 4,
        data: (seq) => ({ text: text(seq) }),
      });
      putLog(logDir, log);
      expect(Math.max(...log.lines.map((line) => Buffer.byteLength(line)))).toBeGreaterThan(65_400);
      expect(await boundaryctl(argsFor(log, "--once"))).toMatchObject({ code: 0 });
      const back = await takeBack(log);
      expect(back.unship).toMatchObject({ records: log.lines.length, duplicates: 0, foreign: 0 });
      expect(back).toMatchObject({ code: 0, text: textOf(log.lines) });
      expect(await boundaryctl(argsFor(log, "--once"))).toMatchObject({ code: 0 });
      expect((await takeBack(log)).unship).toMatchObject({ duplicates: 0 });
    });

    test("without our certificate the server takes nothing, and nothing counts as handed over", async () => {
      const log = await evenLog({ segments: 1, batches: 2, perBatch: 2 });
      putLog(logDir, log);
      const args = argsFor(log, "--once").filter((_, at, all) => {
        const ours = ["--cert", "--key-file"];
        return !ours.includes(all[at] ?? "") && !ours.includes(all[at - 1] ?? "");
      });
      const ran = await boundaryctl(args);
      expect(ran.code).toBe(1);
      expect(ran.stderr).toContain("code: ship-failed");
      expect(() => statSync(join(base.path, "cursor"))).toThrow("ENOENT");
    });

    test.each(["SIGKILL", "SIGTERM"] as const)(
      "an outage (%s) in the middle: the log goes on, the server comes back, and everything is there",
      async (signal) => {
        const log = await evenLog({ segments: 1, batches: 60, perBatch: 20 });
        const lines = log.lines;
        const path = join(logDir, log.segments[0]?.name ?? "");
        const grow = (from: number, to: number): void => appendFileSync(path, textOf(lines.slice(from, to)));
        mkdirSync(logDir);
        grow(0, 300);
        const shipping = startBoundaryctl(argsFor(log, "--confirm-seconds", "0.5", "--json"));
        running.push(shipping);
        await shipping.saw('"event":"confirmed"');
        grow(300, 600);
        await sleep(300); // on its way, and not confirmed
        await server.stop(signal);
        grow(600, 900);
        await shipping.saw('"event":"retry"');
        await server.start();
        grow(900, lines.length);
        await shipping.saw(`"through":${lines.length - 1}`);
        shipping.child.kill("SIGTERM");
        expect(await shipping.done).toMatchObject({ code: 0, stderr: "" });
        const back = await takeBack(log);
        expect(back).toMatchObject({ code: 0, text: textOf(lines) });
      },
    );

    test("a line changed, and one removed, at the server are found", async () => {
      const log = await evenLog({ segments: 1, batches: 5, perBatch: 4 });
      putLog(logDir, log);
      expect((await boundaryctl(argsFor(log, "--once"))).code).toBe(0);
      const kept = readFileSync(server.file, "utf8").split("\n");
      writeFileSync(server.file, kept.map((line) => line.replace('"n":8}', '"n":9}')).join("\n"));
      expect((await takeBack(log)).code).toBe(1);
      writeFileSync(server.file, kept.toSpliced(8, 1).join("\n"));
      const back = await takeBack(log);
      expect(back).toMatchObject({ code: 1, unship: { missing: [{ from: 8, to: 8 }] } });
      writeFileSync(server.file, kept.join("\n"));
      expect((await takeBack(log)).code).toBe(0);
    });

    test(`a flood of ${FLOOD} records goes through, with flat memory`, async () => {
      const log = await evenLog({
        segments: 1,
        batches: FLOOD / 50,
        perBatch: 50,
        data: (seq) => ({ seq, text: "x".repeat(900) }),
      });
      putLog(logDir, log);
      const startedMs = performance.now();
      const shipping = startBoundaryctl(argsFor(log, "--once", "--json"));
      running.push(shipping);
      const kib: number[] = [];
      const sampling = setInterval(() => kib.push(residentKib(shipping.child.pid ?? 0)), 50);
      const ran = await shipping.done;
      clearInterval(sampling);
      const seconds = (performance.now() - startedMs) / 1_000;
      expect(ran).toMatchObject({ code: 0 });
      const seen = kib.filter((one) => one > 0);
      const most = Math.max(...seen);
      const sent = statSync(join(logDir, log.segments[0]?.name ?? "")).size;
      console.info(
        `${FLOOD} records, ${Math.round(sent / 1_048_576)} MiB in ${seconds.toFixed(1)} s; at most ${Math.round(most / 1_024)} MiB`,
      );
      expect(most).toBeLessThan(300 * 1_024);
      // late is no more than early: nothing piles up
      const half = Math.floor(seen.length / 2);
      expect(Math.max(...seen.slice(half))).toBeLessThan(Math.max(...seen.slice(0, half)) + 60 * 1_024);
      const back = await takeBack(log);
      expect(back.code).toBe(0);
      expect(back.text === textOf(log.lines)).toBe(true);
    });
  },
);

function residentKib(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
