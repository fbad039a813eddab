import { existsSync, lstatSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { settingsIn } from "../../daemon/egress/settings.ts";
import { createProxies, type Proxies, type ProxyOrder } from "../../daemon/egress-service/proxies.ts";
import { quiet } from "../support/decide-server.ts";
import { tellRaw } from "../support/egress-proxy.ts";

const id = (n: number): string => String(n).padStart(32, "0");
const GET = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
const directories: string[] = [];
afterEach(() => {
  for (const one of directories.splice(0)) rmSync(one, { recursive: true, force: true });
});

function setup(admits: (fd: number) => boolean = (fd) => peerOf(fd)?.uid === process.geteuid?.()): {
  readonly proxies: Proxies;
  readonly directory: string;
  readonly socketOf: (n: number) => string;
} {
  const directory = mkdtempSync(join(tmpdir(), "boundary-egress-proxies-"));
  directories.push(directory);
  const settings = settingsIn(ConfigSchema.parse({}).egress);
  const proxies = createProxies({ settings, directory, admits, opLog: quiet });
  return { proxies, directory, socketOf: (n) => join(directory, `${id(n)}.sock`) };
}

const run = (n: number): ProxyOrder => ({
  id: id(n),
  lists: { global: [], project: null, blueprint: null, session: null },
  policy: () => Promise.resolve({ allow: false, why: "no", seq: -1 }),
  record: () => ({ seq: 1, durable: Promise.resolve() }),
});

test("each run has a socket of its own, for nobody but its group, and it goes with the run", async () => {
  const { proxies, socketOf } = setup();
  await Promise.all([proxies.open(run(1)), proxies.open(run(2))]);
  expect(lstatSync(socketOf(1)).mode & 0o7777).toBe(0o660);
  expect((await tellRaw(socketOf(1), GET)).told).toMatch(/^HTTP\/1\.1 403 /);
  expect(await proxies.end(id(1), "over")).toBe(true);
  expect([existsSync(socketOf(1)), existsSync(socketOf(2))]).toEqual([false, true]);
  await proxies.endAll("mode.changed");
  expect(existsSync(socketOf(2))).toBe(false);
  expect(await proxies.end(id(2), "again")).toBe(true);
});

test("an id is used by one run at a time, and is one", async () => {
  const { proxies, socketOf } = setup();
  await proxies.open(run(1));
  await expect(proxies.open(run(1))).rejects.toMatchObject({ code: "socket-in-use" });
  expect((await tellRaw(socketOf(1), GET)).told).toMatch(/^HTTP\/1\.1 403 /);
  for (const bad of ["", "../x", "A".repeat(32), `${id(1)}0`])
    await expect(proxies.open({ ...run(1), id: bad })).rejects.toMatchObject({ code: "argument-invalid" });
  await proxies.endAll("over");
});

test("a run that is ended while it is opened is opened for nobody", async () => {
  const { proxies, socketOf } = setup();
  const opening = proxies.open(run(1));
  expect(await proxies.end(id(1), "mode.changed")).toBe(false);
  await expect(opening).rejects.toMatchObject({ code: "egress-ended" });
  expect(existsSync(socketOf(1))).toBe(false);
  await proxies.open(run(1));
  await proxies.endAll("over");
});

test("whom the kernel does not know, or knows as another, is not read", async () => {
  const { proxies, socketOf } = setup(() => false);
  await proxies.open(run(1));
  expect((await tellRaw(socketOf(1), GET)).told).toBe("");
  await proxies.endAll("over");
});

test("a list that cannot be read opens nothing, and the run can be opened with another", async () => {
  const { proxies, socketOf } = setup();
  const lists = { ...run(1).lists, session: ["*.com"] };
  await expect(proxies.open({ ...run(1), lists })).rejects.toMatchObject({ code: "argument-invalid" });
  expect(existsSync(socketOf(1))).toBe(false);
  await proxies.open(run(1));
  await proxies.endAll("over");
});
