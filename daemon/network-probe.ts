import { CANARIES, MODE_CANARIES } from "./core/nft.ts";
import { posture } from "./core/posture.ts";
import type { State } from "./core/state.ts";
import type { Enforcer } from "./enforce.ts";
import type { CanarySender } from "./ports.ts";
import type { Finding, Probe } from "./selftest.ts";

type Parts = {
  readonly enforcer: Enforcer;
  readonly state: () => State;
  readonly send: CanarySender;
};

/** The mode may change, and its counters with it, while a packet is under way. */
const TRIES = 3;

/** Packets that the rules have to refuse, and the counters that have to say so. */
export function networkProbes(parts: Parts): readonly Probe[] {
  return [
    { name: "rules-read-back", control: "network", run: async () => readBack(parts) },
    { name: "canary-packet", control: "network", run: () => steady(parts, () => canaryPackets(parts)) },
    { name: "mode-refuses", control: "network", run: () => steady(parts, () => modeRefuses(parts)) },
  ];
}

/** Why nothing can be tried, or null. */
function idle({ enforcer, state }: Parts): Finding | null {
  if (enforcer.how === "observed") return { outcome: "moot", detail: "log-only: nothing is in the kernel" };
  const { wanted, applied, held } = state();
  if (held.hold !== "enforcing") return { outcome: "not-run", detail: `${held.hold}: nothing is refused` };
  if (applied === wanted) return null;
  return { outcome: "failed", detail: `the kernel has not confirmed ${wanted}` };
}

function readBack(parts: Parts): Finding {
  const found = idle(parts) ?? parts.enforcer.check();
  if (found === null) return { outcome: "failed", detail: "no rules are confirmed" };
  if ("outcome" in found) return found;
  if (!found.same) return { outcome: "failed", detail: `${found.what}: ${found.detail}` };
  return { outcome: "passed", detail: "the kernel holds the rules that were confirmed" };
}

async function steady(parts: Parts, work: () => Promise<Finding>): Promise<Finding> {
  let finding: Finding = { outcome: "not-run", detail: "the mode changed all the while" };
  for (let tries = 0; tries < TRIES; tries += 1) {
    const { attempt } = parts.state();
    const found = idle(parts) ?? (await work());
    if (parts.state().attempt === attempt) return found;
    finding = { outcome: "not-run", detail: "the mode changed all the while" };
  }
  return finding;
}

async function canaryPackets(parts: Parts): Promise<Finding> {
  const counted: string[] = [];
  for (const to of CANARIES) {
    const sent = await sendCounted(parts, "canary", to);
    if (sent.kind === "failed") return { outcome: "failed", detail: sent.why };
    counted.push(`${to.family}: ${sent.why}`);
  }
  const passed = counted.some((text) => text.endsWith(REFUSED));
  return { outcome: passed ? "passed" : "not-run", detail: counted.join("; ") };
}

/** Only where the mode has no network at all; in others it depends on routes and lists which packets it refuses. */
async function modeRefuses(parts: Parts): Promise<Finding> {
  const { network, mode } = posture(parts.state().wanted);
  if (network !== "loopback" && network !== "nothing")
    return { outcome: "moot", detail: `${mode} leaves the network as it is, or in part` };
  const told: string[] = [];
  for (const to of MODE_CANARIES) {
    const sent = await sendCounted(parts, "canary_mode", to);
    if (sent.kind === "failed") return { outcome: "failed", detail: sent.why };
    told.push(`${to.address}: ${sent.why}`);
  }
  const passed = told.some((text) => text.endsWith(REFUSED));
  return { outcome: passed ? "passed" : "not-run", detail: told.join("; ") };
}

const REFUSED = "refused and counted";

async function sendCounted(
  { enforcer, send }: Parts,
  counter: string,
  to: { readonly address: string; readonly port: number },
): Promise<{ readonly kind: "told" | "failed"; readonly why: string }> {
  const count = (): number | null => {
    const found = enforcer.check();
    return found?.same ? (found.drops[counter] ?? null) : null;
  };
  const before = count();
  const sent = await send(to);
  const after = count();
  if (sent.kind === "sent")
    return { kind: "failed", why: `a packet to ${to.address} port ${to.port} was NOT refused` };
  if (sent.kind === "not-sent") return { kind: "told", why: `could not be tried (${sent.why})` };
  if (before === null || after === null || after <= before)
    return { kind: "failed", why: `${to.address}: refused, and the counter ${counter} did not move` };
  return { kind: "told", why: REFUSED };
}
