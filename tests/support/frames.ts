/** An Ethernet frame: addresses as "aa:bb:cc:dd:ee:ff". */
export function frameOf(to: string, from: string, type: number, text: string | Buffer): Buffer {
  const header = Buffer.alloc(14);
  header.set(bytesOf(to), 0);
  header.set(bytesOf(from), 6);
  header.writeUInt16BE(type, 12);
  return Buffer.concat([header, typeof text === "string" ? Buffer.from(text, "latin1") : text]);
}

/** Who has `wanted`? Tell `sender`. */
export function arpRequest(mac: string, sender: string, wanted: string): Buffer {
  const body = Buffer.alloc(28);
  body.writeUInt16BE(1, 0);
  body.writeUInt16BE(0x0800, 2);
  body.writeUInt8(6, 4);
  body.writeUInt8(4, 5);
  body.writeUInt16BE(1, 6);
  body.set(bytesOf(mac), 8);
  body.set(sender.split(".").map(Number), 14);
  body.set(wanted.split(".").map(Number), 24);
  return frameOf("ff:ff:ff:ff:ff:ff", mac, 0x0806, body);
}

function bytesOf(mac: string): readonly number[] {
  return mac.split(":").map((byte) => Number.parseInt(byte, 16));
}
