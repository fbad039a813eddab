import { rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import {
  advertisement,
  arp,
  ECHO_REPLY,
  ECHO_REQUEST,
  echo,
  echoReplyTo,
  ethernet,
  type Mac,
  NEIGHBOUR_SOLICITATION,
  type Packet,
  readFrame,
  type Seen,
  solicited,
  syn,
  udp,
} from "./frame.ts";

/** One end of a wire, and the addresses there. */
export type End = { readonly mac: Mac; readonly v4: string; readonly v6: string };

/**
 * The other end of one of the guest's network cards: qemu hands the frames over as they are. Answers ARP, neighbour
 * solicitation and pings as a host would, so that what the guest sends has somewhere to go; and remembers every frame.
 */
export type Peer = {
  readonly end: End;
  readonly guest: End;
  /** Every frame from the guest, with when it came (performance.now). */
  readonly seen: readonly (Seen & { readonly atMs: number })[];
  /** Sends a packet from `packet.from`, which need not be ours, to the guest's card. */
  ping(packet: Packet, withinMs?: number): Promise<boolean>;
  connect(packet: Packet, port: number, withinMs?: number): Promise<"accepted" | "refused" | "nothing">;
  sendUdp(packet: Packet, port: number): void;
  /** Whether the guest tells its hardware address. */
  askArp(withinMs?: number): Promise<boolean>;
  /** Frames that carry IP, since a moment, other than what the filter of IP does not see (ARP). */
  ipSince(atMs: number): readonly Seen[];
  stop(): void;
};

const REPLY_MS = 2_000;
const LENGTH_BYTES = 4;

/** Listens where qemu connects its card to. The guest's own reboot does not end the connection. */
export async function startPeer(path: string, end: End, guest: End): Promise<Peer> {
  const seen: (Seen & { readonly atMs: number })[] = [];
  const waiting = new Set<(frame: Seen) => void>();
  let wire: Socket | null = null;
  let number = 0;

  const send = (payload: Buffer): void => {
    if (wire === null) return;
    const frame = ethernet(end.mac, guest.mac, payload);
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32BE(frame.length);
    wire.write(Buffer.concat([length, frame]));
  };
  const take = (frame: Buffer): void => {
    const what = readFrame(frame);
    seen.push({ ...what, atMs: performance.now() });
    const answer = answerTo(frame, what, end, guest);
    if (answer !== null) send(answer);
    for (const told of waiting) told(what);
  };
  const awaited = (wanted: (frame: Seen) => boolean, withinMs: number): Promise<Seen | null> =>
    new Promise((resolve) => {
      const done = (found: Seen | null) => {
        clearTimeout(timer);
        waiting.delete(told);
        resolve(found);
      };
      const told = (frame: Seen) => {
        if (wanted(frame)) done(frame);
      };
      const timer = setTimeout(() => done(null), withinMs);
      waiting.add(told);
    });

  rmSync(path, { force: true });
  const server = createServer((socket) => {
    wire = socket;
    readLengths(socket, take);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      if (wire === socket) wire = null;
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });

  return {
    end,
    guest,
    seen,
    ping: async (packet, withinMs = REPLY_MS) => {
      number += 1;
      const mine = number & 0xffff;
      const type = ECHO_REPLY[packet.to.includes(":") ? 6 : 4];
      const reply = awaited(
        (frame) => frame.kind.startsWith("icmp") && frame.what === type && frame.sequence === mine,
        withinMs,
      );
      send(echo(packet, "request", mine, Buffer.from("boundary")));
      return (await reply) !== null;
    },
    connect: async (packet, port, withinMs = REPLY_MS) => {
      number += 1;
      const from = 20_000 + (number % 20_000);
      const reply = awaited(
        (frame) => frame.kind === "tcp" && frame.fromPort === port && frame.toPort === from,
        withinMs,
      );
      send(syn(packet, from, port));
      const frame = await reply;
      if (frame === null) return "nothing";
      return (frame.what & 0x12) === 0x12 ? "accepted" : "refused";
    },
    sendUdp: (packet, port) => send(udp(packet, 33_333, port)),
    askArp: async (withinMs = REPLY_MS) => {
      const reply = awaited(({ kind, what }) => kind === "arp" && what === 2, withinMs);
      send(arp("request", { mac: end.mac, ip: end.v4 }, { mac: guest.mac, ip: guest.v4 }));
      return (await reply) !== null;
    },
    ipSince: (atMs) => seen.filter((frame) => frame.atMs >= atMs && frame.kind !== "arp"),
    stop: () => {
      server.close();
      wire?.destroy();
    },
  };
}

/** Stopped, it gives how many pings there were, and how many of them were answered. */
export type Pings = { stop(): Promise<{ readonly sent: number; readonly answered: number }> };

/** Pings until stopped: what answers while the guest boots. */
export function keepPinging(peer: Peer, everyMs: number): Pings {
  let going = true;
  const tally = { sent: 0, answered: 0 };
  const running = (async () => {
    while (going) {
      for (const [from, to] of [
        [peer.end.v4, peer.guest.v4],
        [peer.end.v6, peer.guest.v6],
      ] as const) {
        tally.sent += 1;
        void peer.ping({ from, to }, 5_000).then((answered) => {
          if (answered) tally.answered += 1;
        });
      }
      await sleep(everyMs);
    }
  })();
  return {
    stop: async () => {
      going = false;
      await running;
      await sleep(1_000); // what is on its way
      return tally;
    },
  };
}

function answerTo(frame: Buffer, what: Seen, end: End, guest: End): Buffer | null {
  if (what.kind === "arp" && what.what === 1 && what.to === end.v4)
    return arp("reply", { mac: end.mac, ip: end.v4 }, { mac: guest.mac, ip: what.from });
  if (what.kind === "icmp6" && what.what === NEIGHBOUR_SOLICITATION && solicited(frame) === end.v6)
    return advertisement({ from: end.v6, to: what.from }, end.mac);
  const asked = what.kind === "icmp" ? ECHO_REQUEST[4] : ECHO_REQUEST[6];
  if (what.kind.startsWith("icmp") && what.what === asked && [end.v4, end.v6].includes(what.to))
    return echoReplyTo(frame);
  return null;
}

/** qemu's framing on a stream: four bytes of length before each frame. */
function readLengths(socket: Socket, take: (frame: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= LENGTH_BYTES) {
      const length = rest.readUInt32BE(0);
      if (rest.length < LENGTH_BYTES + length) return;
      take(rest.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
      rest = rest.subarray(LENGTH_BYTES + length);
    }
  });
}
