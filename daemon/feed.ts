import type { LogRecord } from "./audit/record.ts";
import type { Event } from "./protocol/messages.ts";

/** The newest records, for `events`, and whoever watches them live. Bounded: a slow watcher is dropped by its connection. */
export type Feed = {
  /** To be called with every record once it is durable: what is not in the log did not happen. */
  publish(record: LogRecord): void;
  list(limit: number): readonly Event[];
  /** One watcher for each subscriber: a second takes the first one's place. Returns the way to end it. One that answers false is dropped. */
  subscribe(subscriber: object, watcher: (event: Event) => boolean): () => void;
};

const HELD = 200;
/** A list has to fit into one frame of 64 KiB, so a single event gets a part of it. */
const MAX_LIST_BYTES = 56 * 1024;
const MAX_EVENT_BYTES = 8 * 1024;

export function createFeed(): Feed {
  const held: LogRecord[] = [];
  const watchers = new Map<object, (event: Event) => boolean>();
  return {
    publish(record) {
      if (record.kind === "seal" || record.kind === "log.alive") return; // signs of life, for verifiers
      held.push(record);
      if (held.length >= 2 * HELD) held.splice(0, HELD); // now and then, not with every record
      if (watchers.size === 0) return;
      const { event } = toEvent(record);
      for (const [subscriber, watcher] of watchers) if (!watcher(event)) watchers.delete(subscriber);
    },
    list(limit) {
      let room = MAX_LIST_BYTES;
      const newest = held.slice(-Math.min(limit, HELD)).toReversed().map(toEvent);
      const fitting = newest.filter((entry) => {
        room -= entry.bytes;
        return room >= 0;
      });
      return fitting.map((entry) => entry.event).toReversed();
    },
    subscribe(subscriber, watcher) {
      watchers.set(subscriber, watcher);
      return () => watchers.delete(subscriber);
    },
  };
}

function toEvent(record: LogRecord): { event: Event; bytes: number } {
  const { seq, at, mono, kind } = record;
  const bytes = Buffer.byteLength(JSON.stringify(record.data)) + 200;
  if (bytes <= MAX_EVENT_BYTES) return { event: { seq, at, mono, kind, data: record.data }, bytes };
  const data = { omitted: `${bytes} bytes: read record ${seq} in the log` };
  return { event: { seq, at, mono, kind, data }, bytes: 300 };
}
