import type { Socket } from "node:net";
import { serveFrames } from "../adapters/frame-socket.ts";
import type { Served } from "../adapters/listen-one.ts";
import { renderErrorChain } from "../core/errors.ts";
import type { EgressVerdict } from "../egress/gate.ts";
import { type FromDaemon, type FromEgress, readFromDaemon } from "../egress/messages.ts";
import type { Proxies, ProxiesParts } from "./proxies.ts";

export type SessionSettings = {
  /** What opens proxies, by the daemon's settings. */
  readonly proxies: (settings: ProxiesParts["settings"]) => Proxies;
  /** Called with what the daemon did that it may not do; the connection is ended. */
  readonly onFault: (why: string) => void;
  /** A run's end that did not go as it should: nothing passes any more all the same. */
  readonly onUntidy: (why: string) => void;
};

/** What a run's proxy has asked and not been told yet, by number. */
type Waiting = {
  n: number;
  readonly answers: Map<number, (verdict: EgressVerdict) => void>;
  readonly receipts: Map<number, { readonly resolve: () => void; readonly reject: (why: Error) => void }>;
};

/**
 * Serves the daemon on one connection. The connection is the daemon's hold on what passes: in the turn in which it ends,
 * everything does.
 */
export function serve(socket: Socket, settings: SessionSettings): Served {
  const runs = new Map<string, Waiting>();
  let proxies: Proxies | null = null;
  let ending: Promise<void> = Promise.resolve();
  const frames = serveFrames(socket, {
    take,
    onFault: settings.onFault,
    onEnd: () => {
      ending = proxies?.endAll("the daemon is gone") ?? ending;
      for (const waiting of runs.values()) giveUp(waiting);
      runs.clear();
    },
  });
  const send = (message: FromEgress): void => frames.send(message);

  /** Gives what the daemon did wrong; null when nothing. */
  function take(value: unknown): string | null {
    const read = readFromDaemon(value);
    if (!read.ok) return read.why;
    const { message } = read;
    if (message.kind === "hello") return greet(message);
    if (proxies === null) return `${message.kind} before hello`;
    switch (message.kind) {
      case "open":
        return open(message, proxies);
      case "end":
        return end(message, proxies);
      case "answer":
        return answered(message);
      case "recorded":
        return recorded(message);
    }
  }

  function greet({ settings: told }: Extract<FromDaemon, { kind: "hello" }>): string | null {
    if (proxies !== null) return "a second hello";
    proxies = settings.proxies(told);
    send({ kind: "ready" });
    return null;
  }

  function open({ id, lists }: Extract<FromDaemon, { kind: "open" }>, by: Proxies): string | null {
    if (runs.has(id)) return "a run that is open is opened again";
    const waiting: Waiting = { n: 0, answers: new Map(), receipts: new Map() };
    runs.set(id, waiting);
    const policy = (host: string, port: number): Promise<EgressVerdict> =>
      new Promise((resolve) => {
        waiting.n += 1;
        waiting.answers.set(waiting.n, resolve);
        send({ kind: "ask", id, n: waiting.n, host, port });
      });
    by.open({
      id,
      lists,
      policy,
      // the number stands for the record's: the daemon puts that in its place
      record: (entry) => {
        waiting.n += 1;
        const n = waiting.n;
        const durable = new Promise<void>((resolve, reject) => waiting.receipts.set(n, { resolve, reject }));
        send({ kind: "record", id, n, entry } as FromEgress);
        return { seq: n, durable };
      },
    }).then(
      () => send({ kind: "opened", id }),
      (error: unknown) => {
        runs.delete(id);
        send({ kind: "refused", id, why: renderErrorChain(error).slice(0, 1_024) });
      },
    );
    return null;
  }

  function end({ id, why }: Extract<FromDaemon, { kind: "end" }>, by: Proxies): string | null {
    const waiting = runs.get(id);
    if (waiting === undefined) return null; // it was refused meanwhile
    by.end(id, why).then(
      (isOver) => {
        if (isOver) over(id, waiting);
      },
      (error: unknown) => {
        settings.onUntidy(renderErrorChain(error));
        over(id, waiting);
      },
    );
    return null;
  }

  function over(id: string, waiting: Waiting): void {
    if (runs.get(id) !== waiting) return;
    runs.delete(id);
    giveUp(waiting);
    send({ kind: "ended", id });
  }

  function answered({ id, n, allow, why }: Extract<FromDaemon, { kind: "answer" }>): string | null {
    const answers = runs.get(id)?.answers;
    answers?.get(n)?.({ allow, why, seq: n });
    answers?.delete(n);
    return null;
  }

  function recorded({ id, n, durable }: Extract<FromDaemon, { kind: "recorded" }>): string | null {
    const receipts = runs.get(id)?.receipts;
    const receipt = receipts?.get(n);
    receipts?.delete(n);
    if (durable) receipt?.resolve();
    else receipt?.reject(new Error("the daemon did not record it"));
    return null;
  }

  return {
    stop: async () => {
      frames.end();
      await ending;
    },
  };
}

function giveUp({ answers, receipts }: Waiting): void {
  for (const resolve of answers.values()) resolve({ allow: false, why: "nobody decides any more", seq: -1 });
  for (const { reject } of receipts.values()) reject(new Error("nobody records it any more"));
  answers.clear();
  receipts.clear();
}
