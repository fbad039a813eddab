import type { Entry } from "../audit/record.ts";
import type { EgressConfig } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import { type FromDaemon, type FromEgress, MAX_EGRESS_FRAME, readFromEgress } from "../egress/messages.ts";
import { createRunBook, type RunBook } from "../egress/run-book.ts";
import { listsFor, settingsIn } from "../egress/settings.ts";
import type { EgressDoor, EgressWish } from "../ports.ts";
import { type LinkPlace, openProcessLink } from "./process-link.ts";

/** For the process to have a run's socket there, and to have nothing left of a run. */
const DEADLINE_MS = 5_000;
/** A proxy that floods is read at this pace: the loop has more to do. */
const MESSAGES_PER_SECOND = 2_000;

export type DoorParts = Omit<LinkPlace, "path"> & {
  /** Where the process has its sockets: one for us, and one for each run. */
  readonly directory: string;
  readonly config: EgressConfig;
  /** May throw, when the daemon is stopping. */
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly deadlineMs?: number;
};

type Run = {
  readonly id: string;
  readonly book: RunBook;
  state: "opening" | "open" | "ending";
  /** What waits for it to be open. */
  readonly opened: PromiseWithResolvers<void>;
  readonly over: PromiseWithResolvers<void>;
  timer: NodeJS.Timeout;
};

/**
 * The egress process behind its socket. It decides nothing: what it asks about a run is put to that run's policy, and what
 * it says is believed as far as run-book.ts does. Whatever else it says, or does not say in time, ends the connection, and
 * with that everything that passes.
 */
export function openEgressDoor(parts: DoorParts): EgressDoor {
  const { directory, config, append, opLog, deadlineMs = DEADLINE_MS } = parts;
  const runs = new Map<string, Run>();
  const link = openProcessLink<FromEgress>({
    ...parts,
    path: `${directory}/daemon/egress.sock`,
    hello: () => ({ kind: "hello", settings: settingsIn(config) }) satisfies FromDaemon,
    read: readFromEgress,
    heard,
    gone(why) {
      for (const run of runs.values()) finish(run, `the egress process is gone: ${why}`);
    },
    missing: "no egress proxy for guarded commands",
    mostBytes: MAX_EGRESS_FRAME,
    messagesPerSecond: MESSAGES_PER_SECOND,
  });
  const say = (message: FromDaemon): boolean => link.absent() === null && link.say(message);

  function heard(message: FromEgress): void {
    if (message.kind === "ready") {
      opLog.info({}, "the egress proxy is ready");
      return;
    }
    const run = runs.get(message.id);
    const fault = run === undefined ? "it speaks of a run that it does not have" : take(run, message);
    if (fault !== null) link.drop(fault);
  }

  /** Gives what the process did wrong; null when nothing. */
  function take(run: Run, message: Exclude<FromEgress, { kind: "ready" }>): string | null {
    switch (message.kind) {
      case "opened":
        return opened(run);
      case "refused":
        if (run.state === "open") return "a run that is open is refused";
        opLog.warn({ id: run.id, why: message.why }, "a run has no way out");
        finish(run, message.why);
        return null;
      case "ended":
        if (run.state !== "ending") return "a run has ended that was not to";
        finish(run, "");
        return null;
      case "ask":
        return asked(run, message);
      case "record":
        return recorded(run, message);
    }
  }

  function opened(run: Run): string | null {
    if (run.state === "ending") return null;
    if (run.state === "open") return "a run is opened twice";
    clearTimeout(run.timer);
    run.state = "open";
    run.opened.resolve();
    return null;
  }

  function asked(run: Run, { id, n, host, port }: Extract<FromEgress, { kind: "ask" }>): string | null {
    const put = run.book.ask(n, host, port);
    if ("fault" in put) return put.fault;
    void put.answer.then(({ allow, why }) =>
      tell(run, { kind: "answer", id, n, allow, why: why.slice(0, 1_024) }),
    );
    return null;
  }

  function recorded(run: Run, { id, n, entry }: Extract<FromEgress, { kind: "record" }>): string | null {
    const taken = run.book.record(n, entry);
    if ("fault" in taken) return taken.fault;
    void taken.durable.then((durable) => tell(run, { kind: "recorded", id, n, durable }));
    return null;
  }

  /** Only as long as it is that run, of that connection. */
  function tell(run: Run, message: FromDaemon): void {
    if (runs.get(run.id) === run) say(message);
  }

  function finish(run: Run, why: string): void {
    clearTimeout(run.timer);
    runs.delete(run.id);
    run.book.close(why);
    const code = run.state === "ending" ? "egress-ended" : "exec-unavailable";
    run.opened.reject(
      new BoundaryError(code, `opening the egress of a command${why === "" ? "" : `: ${why}`}`),
    );
    run.over.resolve();
  }

  function end(run: Run, why: string): Promise<void> {
    if (runs.get(run.id) !== run || run.state === "ending") return run.over.promise;
    run.state = "ending";
    run.book.ending(why);
    run.opened.reject(new BoundaryError("egress-ended", `opening the egress of a command: ${why}`));
    clearTimeout(run.timer);
    run.timer = setTimeout(() => link.drop("it does not say that a run has ended"), deadlineMs).unref();
    say({ kind: "end", id: run.id, why: why.slice(0, 1_024) });
    return run.over.promise;
  }

  async function open({ id, workspace, profile, hosts, policy }: EgressWish) {
    const run: Run = {
      id,
      book: createRunBook({ id, limits: config.limits, policy, append }),
      state: "opening",
      opened: Promise.withResolvers(),
      over: Promise.withResolvers(),
      timer: setTimeout(() => link.drop("it does not open a run's socket"), deadlineMs).unref(),
    };
    run.opened.promise.catch(() => undefined); // it may be over before anybody waits
    runs.set(id, run);
    const project = workspace.slice(workspace.lastIndexOf("/") + 1);
    const lists = listsFor(config, { project, blueprint: profile, session: hosts });
    if (!say({ kind: "open", id, lists })) finish(run, `there is no egress proxy: ${link.absent() ?? ""}`);
    await run.opened.promise;
    return { path: `${directory}/runs/${id}.sock`, end: (why: string) => end(run, why) };
  }

  return {
    start: link.start,
    state() {
      const why = link.absent();
      return why === null ? { kind: "ready", runs: runs.size } : { kind: "absent", why };
    },
    open,
    endAll(why) {
      for (const run of runs.values()) void end(run, why);
    },
    stop() {
      for (const run of runs.values()) {
        void end(run, "the daemon stops");
        finish(run, "the daemon stops");
      }
      link.stop();
    },
  };
}
