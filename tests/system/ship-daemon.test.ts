import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Client, connectControl } from "../../client/control.ts";
import { recordOf } from "../audit/fixture.ts";
import { boundaryctl, type Ran, type Running, startBoundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import { HAS_RSYSLOG, type Rsyslog, rsyslogIn } from "../support/rsyslog.ts";
import { type Certificates, makeCertificates } from "../support/tls-files.ts";

/** The whole way: a real daemon, its log shipped as it grows to a real rsyslog over TLS, and taken back. */
describe.skipIf(!HAS_RSYSLOG)(
  "a daemon's log at a server (needs rsyslog, rsyslog-gnutls, openssl)",
  { timeout: 120_000 },
  () => {
    let at: DaemonHome;
    let pem: Certificates;
    let server: Rsyslog;
    let daemons: DaemonProcess[];
    let clients: Client[];
    let running: Running[];

    beforeEach(async () => {
      [daemons, clients, running] = [[], [], []];
      at = createHome({
        initialMode: "RESTRICTED",
        enforcement: { heartbeatMs: 50 },
        log: { segmentBytes: 16_384 },
        ceremony: { coolDownMs: 0, requireTerminal: false },
      });
      pem = makeCertificates(at.path);
      server = await rsyslogIn(at.path, pem);
      await server.start();
    });
    afterEach(async () => {
      for (const client of clients) client.close();
      for (const one of running) one.child.kill("SIGKILL");
      await Promise.all([...running.map((one) => one.done), ...daemons.map((daemon) => daemon.kill())]);
      await server.stop("SIGKILL");
      at.remove();
    });

    async function start(): Promise<DaemonProcess> {
      const daemon = await startDaemon(at);
      daemons.push(daemon);
      return daemon;
    }

    const segments = (dir = at.logDir) => readdirSync(dir).filter((name) => name.endsWith(".jsonl"));
    const textOf = (dir = at.logDir) =>
      segments(dir)
        .map((name) => readFileSync(join(dir, name), "utf8"))
        .join("");
    const lastSeq = () => recordOf(textOf().trimEnd().split("\n").at(-1) ?? "").seq;
    const genesis = () => readFileSync(join(at.stateDir, "log.vkey"), "utf8").trim();

    /** Questions by four clients at once, until there are so many segments. */
    async function loadUntil(count: number): Promise<void> {
      const askers = await Promise.all(
        Array.from({ length: 4 }, () => connectControl(join(at.runtimeDir, "control.sock"))),
      );
      clients.push(...askers);
      const question = {
        action: { name: "recall" },
        resource: { type: "memory", id: "größer", properties: { class: "INTERNAL" } },
      } as const;
      for (let round = 0; segments().length < count; round++) {
        if (round === 2_000) throw new Error(`there are only ${segments().length} segments`);
        await Promise.all(askers.map((client) => client.call("check", question)));
      }
    }

    const shipArgs = (key: string, dir = at.logDir): string[] => {
      const tls = ["--ca", pem.ca, "--cert", pem.client.cert, "--key-file", pem.client.key];
      const where = ["--dir", dir, "--cursor", join(at.path, "cursor"), "--key", key];
      return ["log", "ship", "--to", `tls://localhost:${server.port}`, ...tls, ...where];
    };

    function follow(key: string): Running {
      const shipping = startBoundaryctl([...shipArgs(key), "--follow", "--json", "--confirm-seconds", "0.5"]);
      running.push(shipping);
      return shipping;
    }

    async function takeBack(key: string): Promise<{ unship: Ran; verify: Ran; text: string }> {
      const out = join(at.path, "back.jsonl");
      rmSync(out, { force: true });
      const unship = await boundaryctl(["log", "unship", server.file, "--out", out, "--json"]);
      const verify = await boundaryctl(["verify-log", out, "--key", key, "--json"]);
      return { unship, verify, text: readFileSync(out, "utf8") };
    }

    test("over rotations, a kill and a start: all of it comes back, sound, by the genesis key; what is changed there is found", async () => {
      const daemon = await start();
      const key = genesis();
      const shipping = follow(key);
      await loadUntil(7); // not after the kill: in LOCKDOWN the same denials are counted, not recorded
      await shipping.saw('"event":"confirmed"');
      await daemon.kill();
      const again = await start();
      await again.stop();
      await shipping.saw(`"through":${lastSeq()},`);
      shipping.child.kill("SIGTERM");
      expect(await shipping.done).toMatchObject({ code: 0, stderr: "" });

      const back = await takeBack(key);
      expect(back.unship).toMatchObject({ code: 0 });
      expect(back.text === textOf()).toBe(true);
      const verdict = JSON.parse(back.verify.stdout) as { records: number; keys: readonly object[] };
      expect(verdict).toMatchObject({ verdict: "sound", records: lastSeq() + 1, pruned: { segments: 0 } });
      expect(verdict.keys).toHaveLength(segments().length);

      const kept = readFileSync(server.file, "utf8");
      const third = kept.split("\n").findIndex((line) => line.includes('"segment":2,"snapshot"'));
      const lines = kept.split("\n");
      const asked = lines.findIndex((line, n) => n > third && line.includes("größer"));
      const changes: readonly (readonly string[])[] = [
        lines.with(asked, lines[asked]?.replace("größer", "kleiner") ?? ""),
        lines.toSpliced(asked, 1),
        lines.slice(third), // all before a key change
        lines.slice(0, third - 1), // cut off before a seal
      ];
      for (const changed of changes) {
        writeFileSync(server.file, changed.join("\n"));
        expect(changed.join("\n")).not.toBe(kept);
        expect((await takeBack(key)).verify.code).toBe(1);
      }
      writeFileSync(server.file, `${lines.slice(0, third).join("\n")}\n`); // at a seal: only a head tells
      const cut = await takeBack(key);
      expect(cut.verify.code).toBe(0);
      const head = join(at.stateDir, "log.head");
      const known = ["verify-log", join(at.path, "back.jsonl"), "--key", key, "--head", head, "--json"];
      const told = await boundaryctl(known);
      expect(JSON.parse(told.stdout)).toMatchObject({ bad: { code: "tail-cut" } });
    });

    test("a log that is found broken and moved aside while it is followed: said, and the new one needs its own key", async () => {
      const daemon = await start();
      const key = genesis();
      const shipping = follow(key);
      await loadUntil(3);
      await daemon.stop();
      const through = lastSeq();
      await shipping.saw(`"through":${through},`);
      const last = join(at.logDir, segments().at(-1) ?? "");
      const stopped = readFileSync(last, "utf8");
      expect(stopped).toContain('"kind":"daemon.stopped"');
      writeFileSync(last, stopped.replace('"kind":"daemon.stopped"', '"kind":"daemon.stopper"'));
      await start();
      const ended = await shipping.done;
      expect(ended.code).toBe(1);
      expect(ended.stderr).toContain("code: log-broken");
      expect(ended.stderr).toMatch(/a file was cut, replaced or taken away; the daemon found a log broken/);
      const [aside = ""] = readdirSync(at.logDir).filter((name) => name.startsWith("broken-"));
      expect(ended.stderr).toContain(aside);

      const before = readFileSync(server.file, "utf8");
      const old = await boundaryctl([...shipArgs(key), "--once"]);
      expect(old.code).toBe(1);
      expect(old.stderr).toContain("the log belongs to another key");
      expect(old.stderr).toContain(aside);
      expect(readFileSync(server.file, "utf8")).toBe(before);

      // all that was proven of the old one is there, and the host's copy shows where it was changed
      const back = await takeBack(key);
      expect(JSON.parse(back.verify.stdout)).toMatchObject({ verdict: "sound", records: through + 1 });
      const evidence = await boundaryctl(["verify-log", join(at.logDir, aside), "--key", key, "--json"]);
      expect(JSON.parse(evidence.stdout)).toMatchObject({ verdict: "broken" });

      expect(genesis()).not.toBe(key);
      const fresh = await boundaryctl([...shipArgs(genesis()), "--once"]);
      expect(fresh).toMatchObject({ code: 0 });
      expect(fresh.stderr).toContain("from the start of what there is: ");
    });
  },
);
