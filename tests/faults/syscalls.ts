import { createHome } from "../support/daemon-process.ts";
import { allCases, type Calls, countCalls, nameOf } from "./cases.ts";
import { CONFIG } from "./config.ts";
import { makeDisks } from "./disks.ts";
import { runCase } from "./one-case.ts";
import { count, type Outcome, type Run } from "./run.ts";
import { hasStrace } from "./strace.ts";

/** Every call that the daemon makes on its log and its state fails, one in each round, in every way there is. */
export async function runSyscalls(run: Run): Promise<Outcome> {
  const { shim } = run;
  const tools = [...(hasStrace() ? (["strace"] as const) : []), ...(shim ? (["shim"] as const) : [])];
  const seen = new Map<string, number>();
  const problems: string[] = [];
  const home = createHome(CONFIG);
  let rounds = 0;
  let all = 0;
  try {
    const disks = await makeDisks(home);
    const calls = shim ? await countCalls(home, disks, shim) : NOT_COUNTED;
    const cases = allCases(calls, run.random).filter((each) => tools.includes(each.by));
    all = cases.length;
    for (const each of cases.slice(0, run.rounds)) {
      if (performance.now() > run.untilMs) break;
      rounds += 1;
      const found = await runCase(home, each, { shim: shim ?? "", disk: disks[each.disk] });
      count(seen, `${each.by}: ${found.outcome}`);
      problems.push(...found.problems.map((problem) => `${nameOf(each)}: ${problem}`));
      for (const problem of found.problems) run.tell(`  ${nameOf(each)}: ${problem}`);
    }
  } finally {
    home.remove();
  }
  const missing = [...(tools.includes("strace") ? [] : ["strace"]), ...(shim ? [] : ["a C compiler"])];
  const without = missing.length > 0 ? `without ${missing.join(" and ")}; ` : "";
  const short = rounds < all ? `${rounds} of ${all} cases` : "";
  return { rounds, seen, problems, short: without + short };
}

/** Without the shim nobody counts: the cases that ask for more than there are show as "not reached". */
const NOT_COUNTED: Calls = () => 8;
