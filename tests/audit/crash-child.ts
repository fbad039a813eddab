import { join } from "node:path";
import { openHeadFile, readHead } from "../../daemon/adapters/head-file.ts";
import { createSegment, cutTail, openSegment, readLog } from "../../daemon/adapters/log-file.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import { type Recovery, recoverLog } from "../../daemon/audit/recover.ts";
import { ringIn } from "../support/key-ring.ts";
import { decision, testClock } from "./fixture.ts";

/** What the child runs: appends without end, and says each number when it is durable. */
export async function appendForEver(directory: string): Promise<void> {
  const found = await recover(directory);
  const { log } = open(directory, found);
  for (let i = 0; ; i++) {
    const { seq, durable } = log.append(decision("x".repeat(i % 3_000)));
    void durable.then(
      () =>
        process.stdout.write(`${seq}
`),
      () => process.exit(4),
    );
    if (i % 20 === 0) await durable;
  }
}

function open(directory: string, found: Recovery) {
  const ring = ringIn(directory);
  const goesOn = found.kind === "sound" || found.kind === "recovered";
  const store = goesOn
    ? openSegment(join(directory, "log"), found.file, found.endByte)
    : createSegment(join(directory, "log"), 0);
  const tail = goesOn ? found.tail : emptyTail();
  const onFailed = () => process.exit(5);
  return {
    log: openLog({
      store,
      signer: ring.current(),
      origin: ring.origin,
      head: openHeadFile(directory),
      clock: testClock(),
      tail,
      onFailed,
    }),
  };
}

/** What a start does first. */
export async function recover(directory: string): Promise<Recovery> {
  const logDirectory = join(directory, "log");
  const head = readHead(directory);
  return await recoverLog({
    read: () => readLog(logDirectory),
    cut: (place) => cutTail(logDirectory, place, Date.now()),
    vkey: ringIn(directory).genesis,
    head: head.kind === "note" ? head.note : null,
  });
}
