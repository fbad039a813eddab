import type { ProvenLine, Sink } from "./sink.ts";
import { renderFrame, type Sender } from "./syslog-message.ts";
import type { Session } from "./tls-session.ts";

const SEND_BYTES = 65_536;

/** Sends the lines as RFC 5424 messages over connections that `connect` opens; `confirm` closes one and sees it read. */
export function createSyslogSink(name: string, sender: Sender, connect: () => Promise<Session>): Sink {
  let session: Session | null = null;

  async function attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      drop();
      throw error;
    }
  }

  async function write(lines: readonly ProvenLine[]): Promise<void> {
    session ??= await connect();
    for (const bytes of packed(lines, sender)) await session.send(bytes);
  }

  async function confirm(): Promise<void> {
    await session?.finish();
    session = null;
  }

  function drop(): void {
    session?.destroy();
    session = null;
  }

  return {
    name,
    write: (lines) => attempt(() => write(lines)),
    confirm: () => attempt(confirm),
    close: async () => drop(),
  };
}

/** Frames, some at a time: a TLS record for each would cost more than what is in it. */
function* packed(lines: readonly ProvenLine[], sender: Sender): Generator<Buffer> {
  let frames: Buffer[] = [];
  let bytes = 0;
  for (const line of lines) {
    const frame = renderFrame(line, sender);
    frames.push(frame);
    bytes += frame.length;
    if (bytes < SEND_BYTES) continue;
    yield Buffer.concat(frames);
    [frames, bytes] = [[], 0];
  }
  if (frames.length > 0) yield Buffer.concat(frames);
}
