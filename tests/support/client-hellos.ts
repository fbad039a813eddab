import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { type ConnectionOptions, connect } from "node:tls";

export type Extension = { readonly type: number; readonly body: Buffer };

/** What Node's TLS client sends first. */
export async function realHello(options: ConnectionOptions): Promise<Buffer> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const client = connect({ host: "127.0.0.1", port, ...options });
  client.on("error", () => undefined);
  const [socket] = (await once(server, "connection")) as [Socket];
  const [bytes] = (await once(socket, "data")) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
}

/** A ClientHello as bytes, in one record or in records of so many bytes. */
export function buildHello(extensions: readonly Extension[] | null, recordBytes = 16_384): Buffer {
  const suites = Buffer.from([0x13, 0x01, 0x13, 0x02]);
  const tail =
    extensions === null
      ? Buffer.alloc(0)
      : vector(
          2,
          Buffer.concat(extensions.map(({ type, body }) => Buffer.concat([u16(type), vector(2, body)]))),
        );
  const parts = [u16(0x0303), Buffer.alloc(32, 7), vector(1, Buffer.alloc(32, 9)), vector(2, suites)];
  return recordsOf(messageOf(Buffer.concat([...parts, vector(1, Buffer.from([0])), tail])), recordBytes);
}

export function messageOf(body: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([Buffer.from([1]), length.subarray(1), body]);
}

export function recordsOf(message: Buffer, recordBytes: number): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += recordBytes) {
    const part = message.subarray(at, at + recordBytes);
    records.push(Buffer.concat([Buffer.from([22, 3, 1]), u16(part.length), part]));
  }
  return Buffer.concat(records);
}

export function serverName(...names: readonly string[]): Extension {
  const entries = names.map((name) =>
    Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(name, "latin1"))]),
  );
  return { type: 0, body: vector(2, Buffer.concat(entries)) };
}

export function vector(lengthBytes: 1 | 2, body: Buffer): Buffer {
  return Buffer.concat([lengthBytes === 1 ? Buffer.from([body.length]) : u16(body.length), body]);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

/** The other end of a TLS server: takes what it writes, gives it nothing but `bytes`. */
export function feeding(bytes: Buffer): Duplex {
  const duplex = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  duplex.push(bytes);
  return duplex;
}
