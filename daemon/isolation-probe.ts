import type { Isolation } from "./core/isolation.ts";
import { isolationCanaries, refusedCounter } from "./core/isolation-rules.ts";
import type { IsolationControl } from "./isolation.ts";
import type { CanarySender } from "./ports.ts";
import type { Finding, Probe } from "./selftest.ts";

type Parts = {
  readonly control: Pick<IsolationControl, "check" | "idle">;
  readonly isolation: Isolation;
  readonly send: CanarySender;
};

/**
 * The domains' table is as it was loaded, and it refuses: a real packet for each domain runs to the end of that
 * domain's chain, the one that forwarded packets run through, and has to be refused and counted there. What passes
 * cannot be tried from here: it takes a packet that comes in by one of the interfaces.
 */
export function isolationProbes(parts: Parts): readonly Probe[] {
  return [
    { name: "isolation-read-back", control: "isolation", run: async () => idle(parts) ?? readBack(parts) },
    { name: "isolation-refuses", control: "isolation", run: async () => idle(parts) ?? refuses(parts) },
  ];
}

function idle({ control }: Parts): Finding | null {
  const why = control.idle();
  return why === "" ? null : { outcome: "moot", detail: why };
}

function readBack({ control }: Parts): Finding {
  const found = control.check();
  if (found === null) return { outcome: "failed", detail: "nothing is held" };
  if (!found.same) return { outcome: "failed", detail: `${found.what}: ${found.detail}` };
  return { outcome: "passed", detail: "the kernel holds the domains' table as it was loaded" };
}

/** The counters are read once before all the packets, and once after. */
async function refuses({ control, isolation, send }: Parts): Promise<Finding> {
  const before = countsOf(control);
  const told: string[] = [];
  const refused = new Map<string, number>();
  for (const canary of isolationCanaries(isolation)) {
    const { domain, family } = canary;
    const sent = await send(canary);
    if (sent.kind === "sent")
      return {
        outcome: "failed",
        detail: `a packet that ${domain} may not send was NOT refused (${family})`,
      };
    if (sent.kind === "refused") refused.set(domain, (refused.get(domain) ?? 0) + 1);
    else told.push(`${domain} (${family}) could not be tried: ${sent.why}`);
  }
  const after = countsOf(control);
  for (const [domain, packets] of refused) {
    const counter = refusedCounter(domain);
    const [from, to] = [before?.[counter], after?.[counter]];
    if (from === undefined || to === undefined || to < from + packets)
      return { outcome: "failed", detail: `refused, and the counter ${counter} did not move` };
    told.unshift(`${domain}: ${packets} refused and counted`);
  }
  return { outcome: refused.size > 0 ? "passed" : "not-run", detail: told.join("; ") };
}

function countsOf(control: Parts["control"]): Readonly<Record<string, number>> | null {
  const found = control.check();
  return found?.same ? found.drops : null;
}
