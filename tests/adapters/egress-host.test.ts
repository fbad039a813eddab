import { existsSync, lstatSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { createEgressHost, type EgressHost } from "../../daemon/compose/egress.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { quiet } from "../support/decide-server.ts";
import { tellRaw } from "../support/egress-proxy.ts";

const id = (n: number): string => String(n).padStart(32, "0");
const GET = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
const directories: string[] = [];
afterEach(() => {
  for (const one of directories.splice(0)) rmSync(one, { recursive: true, force: true });
});

function host(more: { peerOf?: (fd: number) => { uid: number } | null; allow?: readonly string[] } = {}): {
  readonly egress: EgressHost;
  readonly runtimeDir: string;
} {
  const runtimeDir = mkdtempSync(join(tmpdir(), "boundary-egress-host-"));
  directories.push(runtimeDir);
  const egress = createEgressHost({
    config: ConfigSchema.parse({ egress: { allow: more.allow ?? [] } }).egress,
    runtimeDir,
    worker: null,
    peerOf: more.peerOf ?? peerOf,
    record: () => ({ seq: 1, durable: Promise.resolve() }),
    opLog: quiet,
  });
  return { egress, runtimeDir };
}

const run = (n: number) => ({
  id: id(n),
  scope: { project: null, blueprint: null, session: null },
  policy: () => Promise.resolve({ allow: false, why: "no", seq: -1 }),
});

test("each run has a socket of its own, for nobody else, and it goes with the run", async () => {
  const { egress, runtimeDir } = host();
  const [first, second] = [await egress.open(run(1)), await egress.open(run(2))];
  expect(first.socketPath).toBe(join(runtimeDir, "egress", `${id(1)}.sock`));
  expect(lstatSync(first.socketPath).mode & 0o7777).toBe(0o600);
  expect(lstatSync(join(runtimeDir, "egress")).mode & 0o7777).toBe(0o700);
  expect((await tellRaw(first.socketPath, GET)).told).toMatch(/^HTTP\/1\.1 403 /);
  await first.end("over");
  expect([existsSync(first.socketPath), existsSync(second.socketPath)]).toEqual([false, true]);
  await egress.endAll("mode.changed");
  expect(existsSync(second.socketPath)).toBe(false);
  await second.end("again");
});

test("an id is used by one run at a time, and is one", async () => {
  const { egress } = host();
  const first = await egress.open(run(1));
  await expect(egress.open(run(1))).rejects.toMatchObject({ code: "socket-in-use" });
  expect((await tellRaw(first.socketPath, GET)).told).toMatch(/^HTTP\/1\.1 403 /);
  for (const bad of ["", "../x", "A".repeat(32), `${id(1)}0`])
    await expect(egress.open({ ...run(1), id: bad })).rejects.toMatchObject({ code: "argument-invalid" });
  await egress.endAll("over");
});

test("a run that is opened while the network is taken away has none", async () => {
  const { egress, runtimeDir } = host();
  const opening = egress.open(run(1));
  await egress.endAll("mode.changed");
  await expect(opening).rejects.toMatchObject({ code: "egress-ended" });
  expect(existsSync(join(runtimeDir, "egress", `${id(1)}.sock`))).toBe(false);
});

test("whom the kernel does not know, or knows as another, is not read", async () => {
  for (const who of [() => null, () => ({ uid: 65_534 })]) {
    const { egress } = host({ peerOf: who });
    const open = await egress.open(run(1));
    expect((await tellRaw(open.socketPath, GET)).told).toBe("");
    await egress.endAll("over");
  }
});

test("a list that cannot be read opens nothing", () => {
  expect(() => host({ allow: ["*.com"] })).toThrow(
    expect.objectContaining({ code: "config-invalid" }) as Error,
  );
});
