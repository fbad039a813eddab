import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";
import type { RunOrder } from "../../daemon/exec/run-order.ts";
import type { OrderGate } from "../../daemon/worker/order-gate.ts";
import type { Kit } from "../../daemon/worker/prepare.ts";
import { type SessionSettings, serve } from "../../daemon/worker/session.ts";

/** A daemon's connection in memory: what is written waits until it is taken. */
function connection() {
  const sent: Buffer[] = [];
  let take: (() => void) | null = null;
  const socket = new Duplex({
    highWaterMark: 16_384,
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      sent.push(chunk);
      take = done;
    },
  });
  const reader = createFrameReader();
  return {
    socket: socket as unknown as Socket,
    say: (message: object) => void socket.emit("data", renderFrame(message)),
    /** All that was written so far. */
    read: () => {
      for (; take !== null; ) {
        const done: () => void = take;
        take = null;
        done();
      }
      return sent.splice(0).flatMap((bytes) => reader.push(bytes).map((one) => (one.ok ? one.value : one)));
    },
  };
}

const PUBLIC = generateKeyPairSync("ed25519").publicKey.export({ format: "der", type: "spki" }).subarray(-32);
const HELLO = { kind: "hello", publicKey: PUBLIC.toString("base64") };

describe("a session", () => {
  let base: string;
  beforeAll(() => {
    base = mkdtempSync(join(tmpdir(), "boundary-session-"));
    mkdirSync(join(base, "work"));
  });
  afterAll(() => rmSync(base, { recursive: true, force: true }));

  const whole = { namespaces: true, seccomp: true, cgroup: false, readOnlyRoot: true, missing: [] };
  const id = "0a".repeat(16);
  const order = () =>
    ({
      id,
      workspace: join(base, "work"),
      cwd: join(base, "work"),
      readable: [],
      argv: ["x"],
    }) as unknown as RunOrder;

  /** Admits all, and finds no program as long as the test lasts. */
  function settings(change: Partial<SessionSettings> = {}) {
    const faults: string[] = [];
    const given: Buffer[] = [];
    const gate: OrderGate = {
      admit: (text, _signature, stdin) => {
        given.push(stdin as Buffer);
        return text === "bad" ? { ok: false, code: "exec-order", why: "bad" } : { ok: true, order: order() };
      },
      isLate: () => false,
    };
    const kit = { programs: { open: () => new Promise(() => undefined) } } as unknown as Kit;
    const all: SessionSettings = {
      gate,
      kit,
      cgroups: { ok: false, why: "" },
      sandbox: whole,
      maxRuns: 4,
      onFault: (why) => faults.push(why),
      ...change,
    };
    return { all, faults, given };
  }
  const run = (text: string) => ({ kind: "run", order: text, signature: "", stdin: "c2VjcmV0" });

  test("does not run a second command of one id while the first is running", () => {
    const { socket, say, read } = connection();
    const { all, faults } = settings();
    serve(socket, all);
    say(HELLO);
    for (let again = 0; again < 3; again++) say(run(`"id":"${id}"`));
    expect(read()).toMatchObject([
      { kind: "ready" },
      { kind: "refused", id, code: "exec-order", why: "a command of that id is running" },
      { kind: "refused", id, code: "exec-order" },
    ]);
    expect(faults).toEqual([]);
  });

  test("wipes the stdin of what it refuses, and keeps that of what it runs", () => {
    const { socket, say } = connection();
    const { all, given } = settings();
    serve(socket, all);
    say(HELLO);
    say(run("bad"));
    say(run("good"));
    say(run("good")); // the same id again
    expect(given.map(String)).toEqual(["\0".repeat(6), "secret", "\0".repeat(6)]);
  });

  test("ends where somebody asks and never reads: what waits does not grow without end", () => {
    const { socket, say } = connection();
    const { all, faults } = settings({
      sandbox: { ...whole, namespaces: false, missing: ["x".repeat(262_144)] },
    });
    serve(socket, all);
    say(HELLO);
    for (let asked = 0; asked < 120 && faults.length === 0; asked++) say(run("any"));
    expect(faults).toEqual(["it does not read"]);
    expect(socket.destroyed).toBe(true);
    expect(socket.writableLength).toBeLessThan(20_000_000);
  });

  test("goes on where it reads late", () => {
    const { socket, say, read } = connection();
    const { all, faults } = settings({
      sandbox: { ...whole, namespaces: false, missing: ["x".repeat(262_144)] },
    });
    serve(socket, all);
    say(HELLO);
    let answers = 0;
    for (let asked = 0; asked < 120; asked++) {
      say(run("any"));
      if (asked % 20 === 0) answers += read().length;
    }
    expect([faults, answers + read().length]).toEqual([[], 121]);
  });

  test.each([
    ["a second hello", [HELLO, HELLO], "a second hello"],
    [
      "another key",
      [HELLO, { ...HELLO, publicKey: Buffer.alloc(32, 7).toString("base64") }],
      "a second hello",
    ],
    ["an order before hello", [run("any")], "run before hello"],
    ["an end before hello", [{ kind: "end", id, why: "" }], "end before hello"],
  ])("ends over %s, and takes nothing more", (_, messages, why) => {
    const { socket, say, read } = connection();
    const { all, faults, given } = settings();
    serve(socket, all);
    for (const message of messages) say(message);
    expect([faults, socket.destroyed]).toEqual([[why], true]);
    read();
    say(run("good"));
    say(HELLO);
    expect([faults, given]).toEqual([[why], []]);
  });
});
