import { join } from "node:path";
import { type Client, connectControl } from "../../client/control.ts";
import type { Status } from "../../daemon/protocol/messages.ts";
import type { DaemonHome } from "../support/daemon-process.ts";

/** An allow that a client has seen. `atNs`: when, as process.hrtime has it. */
export type Allowed = { readonly seq: number; readonly id: string; readonly atNs: bigint };

export type Load = {
  readonly allowed: readonly Allowed[];
  /** Replies that were no allow, and requests without a reply. */
  readonly others: number;
};

/** Ends when `calls` are answered by each client, when the daemon is gone, or at `stop`. Never rejects. */
export function startLoad(
  home: DaemonHome,
  plan: {
    readonly clients: number;
    readonly calls: number;
    readonly name: string;
    readonly padding?: number;
  },
): { readonly done: Promise<Load>; stop(): void } {
  const allowed: Allowed[] = [];
  let others = 0;
  let stopped = false;
  const work = async (which: number): Promise<void> => {
    const client = await connectControl(socketOf(home));
    try {
      for (let i = 0; i < plan.calls && !stopped; i++) {
        const id = `${plan.name}-${which}-${i}${"x".repeat(plan.padding ?? 0)}`;
        const seq = await ask(client, id);
        if (seq === null) others += 1;
        else allowed.push({ seq, id, atNs: process.hrtime.bigint() });
      }
    } finally {
      client.close();
    }
  };
  const each = Array.from({ length: plan.clients }, (_, which) =>
    work(which).catch(() => {
      others += 1; // the daemon is gone: what was not answered was not allowed
    }),
  );
  return {
    done: Promise.all(each).then(() => ({ allowed, others })),
    stop: () => {
      stopped = true;
    },
  };
}

/** The number of the record of an allow; null for any other answer. */
async function ask(client: Client, id: string): Promise<number | null> {
  const resource = { type: "memory", id, properties: { class: "PUBLIC" as const } };
  const answer = await client.call("check", { action: { name: "recall" }, resource });
  return answer.ok && answer.data.decision ? Number(answer.data.correlationId) : null;
}

export async function withClient<T>(home: DaemonHome, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connectControl(socketOf(home));
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

export function statusOf(home: DaemonHome): Promise<Status> {
  return withClient(home, async (client) => {
    const outcome = await client.call("status", {});
    if (!outcome.ok) throw new Error(outcome.problem.detail);
    return outcome.data;
  });
}

/** Out of LOCKDOWN by ceremony, so that something can be allowed; false when that is refused. */
export function leaveLockdown(home: DaemonHome): Promise<boolean> {
  return withClient(home, async (client) => {
    const begun = await client.call("ceremony.begin", { reason: "tests/faults" });
    if (!begun.ok) return false;
    const confirmed = await client.call("ceremony.confirm", { code: begun.data.code, acceptChanges: true });
    return confirmed.ok;
  });
}

function socketOf(home: DaemonHome): string {
  return join(home.runtimeDir, "control.sock");
}
