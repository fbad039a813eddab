import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { connectControl, type Params, type Replies } from "../../client/control.ts";
import { parseProcNet } from "../../daemon/core/proc-net.ts";
import type { FlowClaim, Verb } from "../../daemon/protocol/messages.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import { ADDRESS, createHostBetween, type HostBetween, PORT, probe } from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { eventually, stopAgents } from "../support/packets.ts";

const CONFIG = { initialMode: "OPEN", enforcement: { network: true, deadManMs: 1_000, heartbeatMs: 200 } };

/** What takes the rules of core/nft.ts: one flow let through, and the notes that shadow takes. */
describe.skipIf(NO_NETNS !== "")(
  `a session that is kept, and shadow's list, by packets ${NO_NETNS}`,
  { timeout: 60_000 },
  () => {
    let between: HostBetween;
    let home: DaemonHome;
    let daemon: DaemonProcess;
    let tokens = 0;

    beforeAll(async () => {
      between = await createHostBetween();
    });

    afterAll(async () => {
      await stopAgents();
      removeNetns();
    });

    afterEach(async () => {
      await daemon.kill();
      home.remove();
      between.netns.host.exec("nft", "flush ruleset");
    });

    async function call<V extends Verb>(verb: V, params: Params<V>): Promise<Replies[V]> {
      const client = await connectControl(join(home.runtimeDir, "control.sock"));
      try {
        const outcome = await client.call(verb, params);
        if (!outcome.ok) throw new Error(`${outcome.problem.code}: ${outcome.problem.detail}`);
        return outcome.data;
      } finally {
        client.close();
      }
    }

    /** A TCP connection from the left to the host: what to send by, and what the host's kernel calls it. */
    async function connection(family: 4 | 6): Promise<{ readonly flow: number; readonly claim: FlowClaim }> {
      const before = new Set(flowsOf(family).map((each) => JSON.stringify(each)));
      const flow = await between.agents.left.call("connectTcp", {
        to: ADDRESS.hostLeft[family],
        port: PORT,
      });
      const made = flowsOf(family).find((each) => !before.has(JSON.stringify(each)));
      if (made === undefined) throw new Error("the host has no such connection");
      const { family: _family, ...claim } = made;
      return { flow, claim };
    }

    function flowsOf(family: 4 | 6) {
      const text = ["tcp", "tcp6"].map((name) => between.netns.host.exec("cat", `/proc/net/${name}`));
      return text
        .flatMap((each) => parseProcNet(each, "tcp").flows)
        .filter((each) => each.localPort === PORT && each.family === family);
    }

    /** Whether what is sent over a flow comes back: asked anew each time, since TCP sends again what was dropped. */
    async function lives(flow: number): Promise<boolean> {
      tokens += 1;
      const token = `<${tokens}>`;
      await between.agents.left.call("sendTcp", { flow, token });
      const deadlineMs = performance.now() + 1_500;
      while (performance.now() < deadlineMs) {
        if ((await between.agents.left.call("echoed")).includes(token)) return true;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return false;
    }

    test.each([4, 6] as const)(
      "exactly one flow passes in AIRGAP, and none after the next change (IPv%i)",
      async (family) => {
        home = createHome(CONFIG);
        daemon = await startDaemon(home, { netns: between.netns.host.name });
        const ours = await connection(family);
        const other = await connection(family);
        expect(await lives(ours.flow)).toBe(true);
        expect(await lives(other.flow)).toBe(true);

        await call("mode.set", { mode: "AIRGAP", reason: "test", keep: ours.claim });
        expect(await lives(ours.flow)).toBe(true);
        expect(await lives(other.flow)).toBe(false);
        expect((await probe(between)).toSorted()).toEqual(["loopback/4", "loopback/6"]);
        const { assurance, mode, controls } = await call("status", {});
        expect(assurance).toBe("observed");
        expect(mode).toMatchObject({
          wanted: "AIRGAP",
          applied: "AIRGAP",
          keep: expect.stringContaining("tcp"),
        });
        expect(controls.find(({ name }) => name === "network")).toMatchObject({
          state: "observed",
          detail: expect.stringContaining("enforced but for one flow"),
        });

        await call("mode.set", { mode: "COLDROOM", reason: "test" });
        expect(await lives(ours.flow)).toBe(false);
        expect(await call("status", {})).toMatchObject({ assurance: "enforced", mode: { keep: "" } });
      },
    );

    test("a connection that the host has not is none to keep, and nothing changes", async () => {
      home = createHome(CONFIG);
      daemon = await startDaemon(home, { netns: between.netns.host.name });
      const { claim } = await connection(4);
      const wrong = { ...claim, remotePort: claim.remotePort === 1 ? 2 : 1 };
      await expect(call("mode.set", { mode: "AIRGAP", reason: "test", keep: wrong })).rejects.toThrow(
        /flow-unknown/,
      );
      expect((await call("status", {})).mode.wanted).toBe("OPEN");
    });

    test("shadow lists what it would have refused, and refuses nothing", async () => {
      const enforcement = { ...CONFIG.enforcement, firstStart: "shadow" };
      home = createHome({ ...CONFIG, enforcement, initialMode: "AIRGAP" });
      daemon = await startDaemon(home, { netns: between.netns.host.name });
      expect(await probe(between, ["out to left", "in from left"])).toHaveLength(4);
      const { hold, blocked } = await call("enforcement.shadow", {});
      expect(hold).toBe("shadow");
      expect(blocked).toContainEqual({
        direction: "out",
        address: ADDRESS.left[4],
        protocol: "udp",
        port: PORT,
      });
      expect(blocked.map(({ direction }) => direction)).toContain("in");
      await call("enforcement.enforce", { reason: "test" });
      expect(await probe(between, ["out to left", "in from left"])).toEqual([]);
      expect(await call("enforcement.shadow", {})).toMatchObject({ hold: "enforcing", blocked: [] });
    });

    test("kept and on trial, it comes back to where it was with the session alive all the while", async () => {
      home = createHome(CONFIG);
      daemon = await startDaemon(home, { netns: between.netns.host.name });
      const { flow, claim } = await connection(4);
      await call("mode.set", { mode: "AIRGAP", reason: "test", keep: claim, confirmForMs: 5_000 });
      expect(await lives(flow)).toBe(true);
      expect(await eventually(async () => (await call("status", {})).mode.wanted === "OPEN")).toBe(true);
      expect(await lives(flow)).toBe(true);
    });
  },
);
