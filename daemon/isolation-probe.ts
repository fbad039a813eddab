import type { Isolation } from "./core/isolation.ts";
import { type IsolationCanary, isolationCanaries, refusedCounter } from "./core/isolation-rules.ts";
import type { IsolationControl } from "./isolation.ts";
import type { CanarySender } from "./ports.ts";
import type { Finding, Probe } from "./selftest.ts";

type Parts = {
  readonly control: Pick<IsolationControl, "check" | "idle">;
  readonly isolation: Isolation | null;
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

async function refuses(parts: Parts): Promise<Finding> {
  const told: string[] = [];
  for (const canary of parts.isolation === null ? [] : isolationCanaries(parts.isolation)) {
    const found = await tryOne(parts, canary);
    if (found.outcome === "failed") return found;
    told.push(`${canary.domain} (${canary.family}): ${found.detail}`);
  }
  const passed = told.some((text) => text.endsWith(REFUSED));
  return { outcome: passed ? "passed" : "not-run", detail: told.join("; ") };
}

const REFUSED = "refused and counted";

async function tryOne({ control, send }: Parts, canary: IsolationCanary): Promise<Finding> {
  const counter = refusedCounter(canary.domain);
  const count = (): number | null => {
    const found = control.check();
    return found?.same ? (found.drops[counter] ?? null) : null;
  };
  const before = count();
  const sent = await send(canary);
  const after = count();
  if (sent.kind === "sent")
    return { outcome: "failed", detail: `a packet that ${canary.domain} may not send was NOT refused` };
  if (sent.kind === "not-sent") return { outcome: "not-run", detail: `could not be tried (${sent.why})` };
  if (before === null || after === null || after <= before)
    return { outcome: "failed", detail: `refused, and the counter ${counter} did not move` };
  return { outcome: "passed", detail: REFUSED };
}
