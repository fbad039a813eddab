import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { stringify } from "yaml";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { noise, pem, whole } from "../support/planted-credentials.ts";
import { type RawClient, rawClient } from "../support/raw-client.ts";

/** The real daemon, with secrets given to it in every way a caller or a file has: none is in what it keeps or says. */
const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const secrets: string[] = [];
const secret = (salt: string): string => {
  const made = noise(24, salt);
  secrets.push(made);
  return made;
};
/** "¦" is for the commit scan, which this file has to pass. */
const named = (salt: string): string => whole(`pass¦word=${secret(salt)}`);
const shaped = (salt: string): string => whole(`gh¦p_${secret(salt)}abcdefghijkl`);

test("no secret that it is given gets into the log, what it says, what it shows, or the tool's complaints", async () => {
  const at = createHome("");
  cleanUps.push(at.remove);
  const watched = join(at.path, "watched");
  mkdirSync(watched);
  configure(at, watched);
  const daemon = await startDaemon(at, { env: { BOUNDARY_LOG_LEVEL: "info" } });
  cleanUps.push(() => daemon.kill());
  const socket = join(at.runtimeDir, "control.sock");
  const client = await rawClient(socket);
  cleanUps.push(() => client.socket.destroy());

  const replies: unknown[] = [];
  const ask = async (verb: string, params?: unknown) => {
    client.request("1", verb, params);
    replies.push(await client.next());
  };
  await ask("check", { action: { name: "recall" }, resource: { type: "memory", id: shaped("id") } });
  await ask("check", { action: { name: "recall" }, resource: { type: shaped("type"), id: named("id2") } });
  await ask("mode.set", {
    mode: "LOCKDOWN",
    reason: `${named("reason")}, or ${pem("EC ").replaceAll("\n", "\\n")}`,
  });
  secrets.push(noise(64, "EC "));
  await ask("ceremony.begin", { reason: whole(`{"api¦_key": "${secret("ceremony")}"}`) });
  await ask("ceremony.cancel");
  await ask("status");
  await ask(shaped("verb"), { [named("param")]: 1 });
  await ask("mode.set", { mode: named("mode"), reason: "x", [shaped("field")]: 1 });
  writeFileSync(join(watched, named("file")), "x");
  writeFileSync(join(watched, shaped("file2")), "x");
  await until(() => kept(at.logDir).split('"tripwire":"watched"').length > 2);
  await ask("events.list", { limit: 200 });
  await malformed(socket, replies);
  const tool = [
    await boundaryctl([
      "--runtime-dir",
      at.runtimeDir,
      "mode",
      "set",
      "airgap",
      "--reason",
      "x",
      "--password",
      secret("argv"),
    ]),
    await boundaryctl(["--runtime-dir", at.runtimeDir, "mode", "set", named("argv2"), "--reason", "x"]),
    await boundaryctl(["--runtime-dir", `/nonexistent/${shaped("argv3")}`, "status"]),
  ];
  for (const ran of tool) expect(ran.code).not.toBe(0);
  await daemon.stop();

  const log = kept(at.logDir);
  expect(log.split("[redacted:").length).toBeGreaterThan(6);
  const places = {
    log,
    daemon: daemon.lines.join("\n"),
    replies: JSON.stringify(replies),
    tool: JSON.stringify(tool),
  };
  for (const [place, text] of Object.entries(places))
    expect({ place, leaked: secrets.filter((one) => text.includes(one)) }).toEqual({ place, leaked: [] });
  expect((await boundaryctl(["verify-log", at.logDir, "--state-dir", at.stateDir])).stdout).toContain(
    "sound",
  );
});

function configure(at: DaemonHome, watched: string): void {
  const tripwiresFile = join(at.path, "etc", "tripwires.yaml");
  const wire = {
    id: "watched",
    on: "file.changed",
    match: { path: `${watched}/` },
    armed: ["RESTRICTED", "LOCKDOWN"],
    action: "note",
  };
  writeFileSync(tripwiresFile, JSON.stringify({ tripwires: [wire] }), { mode: 0o600 });
  const ceremony = { coolDownMs: 0, requireTerminal: false };
  writeFileSync(at.configFile, stringify({ initialMode: "RESTRICTED", ceremony, tripwiresFile }));
}

async function malformed(socket: string, replies: unknown[]): Promise<void> {
  const frames = [
    `{"type":"request","data":{"id":"${shaped("frame")}",\f`,
    `{"${named("frame2")}":1,"${named("frame2")}":2}\f`,
    `${shaped("frame3")}\f`,
  ];
  for (const frame of frames) {
    const client: RawClient = await rawClient(socket);
    cleanUps.push(() => client.socket.destroy());
    client.send(frame);
    replies.push(await client.next());
  }
}

function kept(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8"))
    .join("");
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error("it did not come to hold");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
