import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFrameReader, MAX_FRAME_BYTES, renderFrame } from "../../daemon/core/frames.ts";
import { readFromWorker } from "../../daemon/exec/worker-frames.ts";
import { readMessage } from "../../daemon/worker/messages.ts";

const ID = "0123456789abcdef0123456789abcdef";
const SANDBOX = {
  namespaces: true,
  seccomp: true,
  cgroup: false,
  readOnlyRoot: true,
  missing: ["cgroup: none"],
};
const ENDED = {
  kind: "ended",
  id: ID,
  exitCode: 0,
  signal: null,
  timedOut: false,
  cancelled: false,
  why: "",
  truncated: { stdout: 0, stderr: 0 },
  durationMs: 1.5,
};

describe("what daemon and worker say to each other", () => {
  test("what we say is what the worker reads", () => {
    const messages = [
      { kind: "hello", publicKey: Buffer.alloc(32).toString("base64") },
      { kind: "run", order: "{}", signature: "AAAA", stdin: "" },
      { kind: "end", id: ID, why: "mode LOCKDOWN" },
    ] as const;
    const reader = createFrameReader();
    for (const message of messages) {
      const [read] = reader.push(renderFrame(message));
      expect(read).toMatchObject({ ok: true });
      expect(read?.ok === true && readMessage(read.value)).toEqual({ ok: true, message });
    }
  });

  test("what the worker says is read, however its bytes come", () => {
    const messages = [
      { kind: "ready", sandbox: SANDBOX },
      { kind: "started", id: ID, sandbox: SANDBOX },
      { kind: "output", id: ID, stream: "stderr", data: Buffer.from("é\0").toString("base64") },
      ENDED,
      { kind: "refused", id: ID, code: "exec-spawn", why: "no" },
    ];
    const bytes = Buffer.concat(messages.map(renderFrame));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (sizes) => {
        const reader = createFrameReader();
        const seen: string[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          for (const frame of reader.push(bytes.subarray(at, at + size))) {
            const read = frame.ok ? readFromWorker(frame.value) : frame;
            seen.push(read.ok ? read.message.kind : read.why);
          }
          at += size;
        }
        expect(seen).toEqual(["ready", "started", "output", "ended", "refused"]);
      }),
    );
  });

  test("anything at all is a message or a reason, never an exception", () => {
    const anything = fc.oneof(
      fc.jsonValue(),
      fc
        .tuple(fc.constantFrom(...Object.keys(ENDED)), fc.jsonValue())
        .map(([name, value]) => ({ ...ENDED, [name]: value })),
    );
    fc.assert(
      fc.property(anything, (value) => {
        const read = readFromWorker(value);
        expect(typeof (read.ok ? read.message.kind : read.why)).toBe("string");
      }),
      { numRuns: 1_000 },
    );
  });

  test("unknown fields, codes and ids are refused, and a frame that is too long is the last", () => {
    for (const bad of [
      { ...ENDED, more: 1 },
      { ...ENDED, id: "x" },
      { ...ENDED, exitCode: 300 },
      { kind: "refused", id: ID, code: "nonsense", why: "" },
      { kind: "output", id: ID, stream: "stdin", data: "" },
      { kind: "output", id: ID, stream: "stdout", data: "%" },
    ])
      expect(readFromWorker(bad).ok).toBe(false);
    const reader = createFrameReader(100);
    const header = Buffer.alloc(4);
    header.writeUInt32BE(101);
    expect(reader.push(header)).toEqual([{ ok: false, why: "a frame of 101 bytes" }]);
    expect(reader.push(renderFrame({ kind: "ready", sandbox: SANDBOX }))).toEqual([]);
    expect(() => renderFrame({ kind: "end", id: ID, why: "x".repeat(MAX_FRAME_BYTES) })).toThrow(RangeError);
  });
});
