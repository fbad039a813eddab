import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { openEgressDoor } from "../../daemon/adapters/egress-door.ts";
import { peerOf } from "../../daemon/adapters/peer.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import type { EgressVerdict } from "../../daemon/egress/gate.ts";
import type { EgressDoor } from "../../daemon/ports.ts";
import { fakeEgress } from "../support/fake-egress.ts";

const id = (n: number): string => n.toString(16).padStart(32, "0");
const PLACE = { way: "tls", host: "a.example", port: 443 };
const NOBODY = {
  kind: "egress.refused",
  data: { run: id(1), code: "http-invalid", why: "this is not HTTP/1.1" },
};
const LISTS = {
  allow: ["a.example"],
  projects: { web: ["a.example", "b.example"] },
  blueprints: { build: [] },
};

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

async function setup(
  options: {
    readonly answers?: Parameters<typeof fakeEgress>[1];
    readonly deadlineMs?: number;
    readonly config?: object;
    readonly append?: (entry: Entry) => { seq: number; durable: Promise<unknown> };
    readonly fake?: false;
  } = {},
) {
  const directory = mkdtempSync(join(tmpdir(), "boundary-egress-door-"));
  stops.push(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "daemon/egress.sock");
  const startFake = async () => {
    const made = await fakeEgress(path, options.answers);
    stops.push(() => made.stop());
    return made;
  };
  const log: Entry[] = [];
  const told: string[] = [];
  const tell = (fields: object, message: string) => void told.push(`${message} ${JSON.stringify(fields)}`);
  const fake = options.fake === false ? null : await startFake();
  const door = openEgressDoor({
    directory,
    peerOf,
    random: () => 0,
    opLog: { info: tell, warn: tell, error: tell },
    config: ConfigSchema.parse({ egress: options.config ?? {} }).egress,
    append:
      options.append ??
      ((entry) => {
        log.push(entry);
        return { seq: 1_000 + log.length, durable: Promise.resolve() };
      }),
    ...(options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }),
  });
  stops.push(() => door.stop());
  door.start();
  if (fake !== null && options.answers?.hello !== false) await ready(door);
  return { door, fake: fake as NonNullable<typeof fake>, log, told, directory, startFake };
}

const ready = (door: EgressDoor) => expect.poll(() => door.state().kind).toBe("ready");
const why = (door: EgressDoor): string => {
  const state = door.state();
  return state.kind === "absent" ? state.why : "";
};
const wish = (n: number, policy?: (host: string) => Promise<EgressVerdict>) => ({
  id: id(n),
  uid: 1_000,
  profile: "build",
  workspace: "/srv/work/web",
  hosts: null,
  policy: policy ?? (() => Promise.resolve({ allow: true, why: "", seq: 77 })),
});
const ask = (n: number, run = 1, host = "a.example") => ({ kind: "ask", id: id(run), n, host, port: 443 });
const opened = (n: number, decision: number, run = 1) => ({
  kind: "record",
  id: id(run),
  n,
  entry: { kind: "egress.opened", data: { run: id(run), ...PLACE, addresses: ["93.184.216.34"], decision } },
});

describe("a run's way out", () => {
  test("is opened with the settings and the lists of its project and blueprint, and is at its own path", async () => {
    const { door, fake, directory } = await setup({ config: { ...LISTS, plainPorts: [22] } });
    expect(fake.of("hello")).toMatchObject([{ settings: { plainPorts: [22], limits: { connections: 64 } } }]);
    const way = await door.open(wish(1));
    expect(way.path).toBe(`${directory}/runs/${id(1)}.sock`);
    expect(fake.of("open")).toEqual([
      {
        kind: "open",
        id: id(1),
        lists: { global: LISTS.allow, project: LISTS.projects.web, blueprint: [], session: null },
      },
    ]);
    expect(door.state()).toEqual({ kind: "ready", runs: 1 });
    await way.end("over");
    await way.end("again");
    expect(fake.of("end")).toEqual([{ kind: "end", id: id(1), why: "over" }]);
    expect(door.state()).toEqual({ kind: "ready", runs: 0 });
  });

  test("its questions are put to its policy, its records written, and both answered when that is so", async () => {
    const written = Promise.withResolvers<void>();
    const kept: Entry[] = [];
    const { door, fake } = await setup({
      append: (entry) => {
        kept.push(entry);
        return { seq: 5, durable: written.promise };
      },
    });
    await door.open(wish(1, async (host) => ({ allow: host === "a.example", why: "said", seq: 77 })));
    fake.say(ask(1, 1, "b.example"));
    fake.say(ask(2));
    await expect.poll(() => fake.of("answer").length).toBe(2);
    expect(fake.of("answer")).toEqual([
      { kind: "answer", id: id(1), n: 1, allow: false, why: "said" },
      { kind: "answer", id: id(1), n: 2, allow: true, why: "said" },
    ]);
    fake.say(opened(3, 2));
    await expect.poll(() => kept).toMatchObject([{ kind: "egress.opened", data: { decision: 77 } }]);
    expect(fake.of("recorded")).toEqual([]);
    written.resolve();
    await expect
      .poll(() => fake.of("recorded"))
      .toEqual([{ kind: "recorded", id: id(1), n: 3, durable: true }]);
  });

  test("what comes of a question when the run is over is not said any more", async () => {
    const { promise, resolve } = Promise.withResolvers<EgressVerdict>();
    const { door, fake } = await setup();
    const way = await door.open(wish(1, () => promise));
    fake.say(ask(1));
    fake.say({ kind: "record", id: id(1), n: 2, entry: NOBODY });
    await expect.poll(() => fake.of("recorded").length).toBe(1);
    await way.end("over");
    resolve(ALLOW);
    await door.open(wish(2));
    expect(fake.of("answer")).toEqual([]);
  });

  test("one that the process refuses is none, and one can be opened after it", async () => {
    const { door, fake } = await setup({ answers: { open: false } });
    const asked = door.open(wish(1));
    await expect.poll(() => fake.of("open").length).toBe(1);
    fake.say({ kind: "refused", id: id(1), why: "no room" });
    await expect(asked).rejects.toMatchObject({
      code: "exec-unavailable",
      message: expect.stringContaining("no room"),
    });
    expect(door.state()).toEqual({ kind: "ready", runs: 0 });
  });
});

describe("when the mode takes the network away", () => {
  test("all end in that turn: an answer under way allows nothing, and nothing is opened any more", async () => {
    const { promise, resolve } = Promise.withResolvers<EgressVerdict>();
    const { door, fake, log } = await setup({ answers: { end: false } });
    await door.open(wish(1, (host) => (host === "a.example" ? Promise.resolve(ALLOW) : promise)));
    fake.say(ask(1));
    fake.say(ask(2, 1, "late.example"));
    await expect.poll(() => fake.of("answer").length).toBe(1);
    door.endAll("mode AIRGAP");
    resolve(ALLOW);
    fake.say(opened(3, 1));
    await expect.poll(() => fake.of("recorded")).toMatchObject([{ n: 3, durable: false }]);
    expect(fake.of("answer").at(-1)).toMatchObject({ n: 2, allow: false, why: "mode AIRGAP" });
    expect(log).toEqual([]);
    expect(fake.of("end")).toEqual([{ kind: "end", id: id(1), why: "mode AIRGAP" }]);
    door.endAll("mode AIRGAP");
    fake.say({ kind: "ended", id: id(1) });
    await expect.poll(() => door.state()).toEqual({ kind: "ready", runs: 0 });
    expect(fake.of("end")).toHaveLength(1);
  });

  test("one that is being opened comes to nothing, whatever the process says then", async () => {
    const { door, fake } = await setup({ answers: { open: false, end: false } });
    const [first, second] = [door.open(wish(1)), door.open(wish(2))];
    await expect.poll(() => fake.of("open").length).toBe(2);
    door.endAll("mode LOCKDOWN");
    await expect(first).rejects.toMatchObject({ code: "egress-ended" });
    await expect(second).rejects.toMatchObject({ code: "egress-ended" });
    fake.say({ kind: "opened", id: id(1) });
    fake.say({ kind: "ended", id: id(1) });
    fake.say({ kind: "refused", id: id(2), why: "ended" });
    await expect.poll(() => door.state()).toEqual({ kind: "ready", runs: 0 });
    expect(fake.connections()).toBe(1);
  });
});

describe("a process that does not keep to its order is not believed any more", () => {
  test.each([
    ["a run that is not", { kind: "opened", id: id(9) }],
    ["a run opened twice", { kind: "opened", id: id(1) }],
    ["a run that is open refused", { kind: "refused", id: id(1), why: "" }],
    ["an end that nobody asked for", { kind: "ended", id: id(1) }],
    ["a second ready", { kind: "ready" }],
    ["another host", opened(3, 1)],
    ["a number again", ask(1)],
    [
      "another record",
      { kind: "record", id: id(1), n: 9, entry: { kind: "mode.changed", data: { to: "OPEN" } } },
    ],
    ["no message", { kind: "hello" }],
  ])("%s", async (_what, message) => {
    const { door, fake, log } = await setup();
    await door.open(wish(1));
    fake.say(ask(1, 1, "b.example"));
    await expect.poll(() => fake.of("answer").length).toBe(1);
    fake.say(message);
    await expect.poll(() => fake.connections()).toBe(2);
    await ready(door);
    expect(door.state()).toEqual({ kind: "ready", runs: 0 });
    expect(log).toEqual([]);
  });

  test("a frame that is longer than a record, and bytes that are none", async () => {
    for (const bytes of [Buffer.from([0, 0, 0x40, 1]), Buffer.from([0, 0, 0, 1, 0xff])]) {
      const { door, fake, told } = await setup();
      fake.raw(bytes);
      await expect.poll(() => fake.connections()).toBe(2);
      await ready(door);
      expect(told.join("\n")).toContain("no egress proxy for guarded commands");
    }
  });

  test("what was opened is on record as closed when it is gone; what it says of the run then is of none", async () => {
    const { door, fake, log } = await setup();
    await door.open(wish(1));
    fake.say(ask(1));
    await expect.poll(() => fake.of("answer").length).toBe(1);
    fake.say(opened(2, 1));
    await expect.poll(() => log.length).toBe(1);
    fake.drop();
    await expect.poll(() => log.length).toBe(2);
    expect(log[1]).toMatchObject({ kind: "egress.closed", data: { run: id(1), opened: 1_001 } });
    expect(String(log[1]?.data["why"])).toContain("the egress process is gone");
    await ready(door);
    await expect(door.open(wish(2))).resolves.toBeDefined();
  });
});

describe("a process that says nothing", () => {
  test("is none: it is asked again, and a run cannot be opened", async () => {
    const { door, fake } = await setup({ answers: { hello: false } });
    await expect.poll(() => fake.of("hello").length).toBe(1);
    expect(why(door)).toBe("not connected yet");
    await expect(door.open(wish(1))).rejects.toMatchObject({ code: "exec-unavailable" });
  });

  test("about a run that is to be opened: the connection ends, and the next one is taken up", async () => {
    const { door, fake } = await setup({ answers: { open: false }, deadlineMs: 50 });
    await expect(door.open(wish(1))).rejects.toMatchObject({
      code: "exec-unavailable",
      message: expect.stringContaining("does not open a run's socket"),
    });
    await expect.poll(() => fake.connections()).toBe(2);
  });

  test("about a run that is to end: the connection ends, and so does everything", async () => {
    const { door, fake } = await setup({ answers: { end: false }, deadlineMs: 50 });
    const [one] = await Promise.all([door.open(wish(1)), door.open(wish(2))]);
    await one.end("over");
    await expect.poll(() => fake.connections()).toBe(2);
    await expect.poll(() => door.state()).toEqual({ kind: "ready", runs: 0 });
  });
});

test("a flood is read at a pace, and all of it is", async () => {
  const { door, fake, log } = await setup();
  await door.open(wish(1));
  const begunMs = performance.now();
  for (let n = 1; n <= 6_000; n++) fake.say(opened(n + 1, n));
  await expect.poll(() => fake.of("recorded").length, { timeout: 15_000 }).toBe(6_000);
  expect(performance.now() - begunMs).toBeGreaterThan(900);
  expect([log.length, fake.connections()]).toEqual([0, 1]);
});

test("who listens has to be the owner of the directory, which nobody else may write", async () => {
  const { door, directory, startFake } = await setup({ fake: false });
  expect(why(door)).toMatch(/not connected yet|ENOENT/);
  await startFake();
  chmodSync(join(directory, "daemon"), 0o770);
  await expect.poll(() => why(door)).toContain("others may write");
  chmodSync(join(directory, "daemon"), 0o750);
  await ready(door);
});

test("a stop tells the process, and the log, of every end", async () => {
  const { door, fake, log } = await setup({ answers: { end: false } });
  await door.open(wish(1));
  fake.say(ask(1));
  await expect.poll(() => fake.of("answer").length).toBe(1);
  fake.say(opened(2, 1));
  await expect.poll(() => fake.of("recorded").length).toBe(1);
  door.stop();
  expect(log.at(-1)).toMatchObject({ kind: "egress.closed", data: { why: "the daemon stops" } });
  await expect.poll(() => fake.of("end")).toMatchObject([{ why: "the daemon stops" }]);
  fake.say({ kind: "ended", id: id(1) });
  await expect(door.open(wish(2))).rejects.toMatchObject({ code: "exec-unavailable" });
  expect([why(door), fake.connections()]).toEqual(["stopped", 1]);
});

const ALLOW: EgressVerdict = { allow: true, why: "", seq: 77 };
