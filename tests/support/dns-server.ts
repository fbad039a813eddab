import { createSocket } from "node:dgram";

/** name -> its answers, one after the other, the last one again and again; each a list of IPv4 addresses. */
export type Zone = Readonly<Record<string, readonly (readonly string[])[]>>;

/** A name server that knows a handful of names, and says NXDOMAIN of all others. */
export function serveDns(address: string, zone: Zone, asked: (name: string) => void): Promise<void> {
  const turns = new Map<string, number>();
  const socket = createSocket("udp4");
  socket.on("message", (query, peer) => {
    const { name, type, end } = questionOf(query);
    asked(name);
    const answers = zone[name];
    const turn = turns.get(name) ?? 0;
    const addresses = type === 1 ? (answers?.[Math.min(turn, answers.length - 1)] ?? []) : [];
    if (type === 1) turns.set(name, turn + 1);
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(answers === undefined ? 0x8183 : 0x8180, 2);
    header.writeUInt16BE(addresses.length, 6);
    header.writeUInt32BE(0, 8);
    const records = addresses.map((text) =>
      Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...text.split(".").map(Number)]),
    );
    socket.send(Buffer.concat([header, query.subarray(12, end), ...records]), peer.port, peer.address);
  });
  return new Promise((resolve) => socket.bind(53, address, resolve));
}

function questionOf(query: Buffer): { readonly name: string; readonly type: number; readonly end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  return { name: labels.join(".").toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}
