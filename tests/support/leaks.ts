import { ADDRESS, type HostBetween, knowNeighbours } from "./host-between.ts";
import { type Agent, delay, startAgent } from "./packets.ts";

const PORT = 9_100;

/** Counts what of a flood at full rate arrives anywhere: in, out and through the host, both families. */
export type LeakMeter = {
  /** What has arrived since the last count. */
  heard(): Promise<number>;
  /** Floods while `act` runs. */
  flooded(act: () => Promise<unknown>): Promise<{ readonly tried: number; readonly leaked: number }>;
};

/** Its sockets take every datagram that comes up from IP, so that a single one counts. */
export async function createLeakMeter(world: HostBetween): Promise<LeakMeter> {
  knowNeighbours(world);
  const { left } = world.agents;
  const sender = startAgent(world.netns.host);
  const ears: { readonly agent: Agent; readonly fd: number }[] = [];
  for (const agent of [left, world.agents.host, world.agents.right]) {
    for (const family of [4, 6] as const)
      ears.push({ agent, fd: await agent.call("openRaw", { family, protocol: 17 }) });
  }

  const heard = async () => {
    let count = 0;
    for (const { agent, fd } of ears) count += (await agent.call("drain", { fd })).length;
    return count;
  };
  return {
    heard,
    flooded: async (act) => {
      const both = (to: keyof typeof ADDRESS) =>
        ([4, 6] as const).map((family) => ({ family, to: ADDRESS[to][family], port: PORT }));
      await left.call("flood", { targets: [...both("hostLeft"), ...both("right")] });
      await sender.call("flood", { targets: [...both("left"), ...both("right")] });
      await act();
      const counts = [await left.call("floodStop"), await sender.call("floodStop")];
      await delay(50);
      return { tried: counts.reduce((sum, { tried }) => sum + tried, 0), leaked: await heard() };
    },
  };
}
