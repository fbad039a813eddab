import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { dial } from "../../daemon/adapters/egress-dial.ts";
import { createResolve } from "../../daemon/adapters/egress-resolve.ts";
import { originOf } from "../support/egress-proxy.ts";

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

const never = new AbortController().signal;

async function server(): Promise<number> {
  const there = await originOf(createServer((socket) => void socket.end("here")));
  stops.push(there.stop);
  return there.port;
}

describe("connecting", () => {
  test("goes to the first of the addresses that takes it", async () => {
    const port = await server();
    const socket = await dial({
      addresses: ["127.0.0.2", "127.0.0.1"],
      port,
      deadlineMs: 2_000,
      signal: never,
    });
    expect(socket.remoteAddress).toBe("127.0.0.1");
    socket.destroy();
  });

  test.each([
    ["nobody takes it", ["127.0.0.2"]],
    ["there is none", []],
    ["it is a name", ["localhost"]],
  ])("fails where %s", async (_what, addresses) => {
    const port = await server();
    const order = { addresses, port, deadlineMs: 2_000, signal: never };
    await expect(dial(order)).rejects.toMatchObject({ code: "egress-unreachable" });
  });

  test("ends with the run", async () => {
    const over = new AbortController();
    const socket = await dial({
      addresses: ["127.0.0.1"],
      port: await server(),
      deadlineMs: 2_000,
      signal: over.signal,
    });
    over.abort();
    if (!socket.closed) await once(socket, "close");
    const order = { addresses: ["127.0.0.1"], port: 1, deadlineMs: 2_000, signal: over.signal };
    await expect(dial(order)).rejects.toMatchObject({ code: "egress-unreachable" });
  });
});

describe("looking a name up", () => {
  test("has its deadline where the DNS is silent", async () => {
    const silent = createSocket("udp4");
    await new Promise<void>((resolve) => silent.bind(0, "127.0.0.1", resolve));
    stops.push(() => silent.close());
    const resolve = createResolve({ servers: [`127.0.0.1:${silent.address().port}`], deadlineMs: 400 });
    const begun = performance.now();
    await expect(resolve("other.example")).rejects.toThrow();
    expect(performance.now() - begun).toBeLessThan(2_000);
  });
});
