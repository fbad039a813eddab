import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { renderErrorChain } from "../../daemon/core/errors.ts";
import { isOnHost, missingFor } from "../support/setup.ts";
import { type Guest, type GuestParts, startGuest } from "./guest.ts";
import { NoImage, provideImage } from "./image.ts";
import { keepPinging, type Peer, type Pings } from "./peer.ts";
import { makeProductDisk } from "./product.ts";
import { createReport, type Report } from "./report.ts";
import { enforce, install } from "./scenarios/install.ts";
import { BEGINNINGS, SCENARIOS, type Scenario } from "./scenarios.ts";
import { createStage } from "./stage.ts";

const HELP = `npm run test:vm: the product in a machine of its own, with systemd, udev, reboots and power cuts

  --only NAME     one scenario (${SCENARIOS.map(({ name }) => name).join(", ")}); may be given again
  --one           one guest after the other: slower, and easier to read
  --keep          leave the guests' disks and consoles, and say where
  --from DIR      go on from what a run with --keep had installed, without installing again
  --counts=FILE   gets "passed failed skipped"
  --help

Needs qemu-system-x86_64, qemu-img, debootstrap and mke2fs, and root for the first run, which builds the guest's image
into $BOUNDARY_VM_CACHE or ~/.cache/boundary-daemon/vm. Exit: 0 all checks held or it cannot run here, 1 otherwise.
`;

/** Far above what it takes on a machine of its own: what hangs is ended. */
const DEADLINE_MS = 45 * 60_000;
/** Two cores have work for as many guests: one more waits for its reboots and windows meanwhile. */
const AT_ONCE = 3;
const CONTROL_PING_MS = 200;

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    one: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    from: { type: "string" },
    counts: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

const begunMs = performance.now();
const directory = mkdtempSync(join(tmpdir(), "boundary-vm-"));
const guests = new Set<Guest>();
const reports: Report[] = [];
process.once("exit", () => {
  if (values.keep) console.log(`kept: ${directory}`);
  else rmSync(directory, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void endEarly(signal));
setTimeout(() => void endEarly("the deadline"), DEADLINE_MS).unref();

await run().catch((error: unknown) => {
  if (error instanceof NoImage) return finish(error.message);
  newReport("run").check("went on to the end", false, renderErrorChain(error));
  return finish();
});

async function run(): Promise<void> {
  const chosen = SCENARIOS.filter(({ name }) => values.only?.includes(name) ?? true);
  if (chosen.length === 0) throw new Error(`there is no scenario ${values.only?.join(", ")}`);
  const missing = missingFor("vm", isOnHost).map(({ what }) => what);
  if (missing.length > 0) throw new NoImage(`missing: ${missing.join(", ")}`);
  const image = provideImage((line) => console.log(line));
  const product = values.from === undefined ? makeProductDisk(directory) : join(values.from, "product.img");
  const parts = { image, product, from: null } as const;
  const installed = join(values.from ?? directory, "installed");
  if (values.from === undefined) {
    const wire: { pings?: Pings } = {};
    const onWire = (outside: Peer) => {
      wire.pings = keepPinging(outside, CONTROL_PING_MS);
    };
    await inGuest({ ...parts, directory: installed, onWire }, "install", async (guest, report) => {
      await guest.ok("until ip -br addr | grep -q 10.66; do sleep 0.5; done; sleep 2", 90);
      const { sent, answered } = (await wire.pings?.stop()) ?? { sent: 0, answered: 0 };
      // a control: on the same wire, by the same pings that find a boot with us closed
      report.check("a host without us answers pings while it boots", answered > 0, `${answered} of ${sent}`);
      const stage = createStage(guest, report);
      await install(stage);
      await guest.save("shadow");
      await enforce(stage);
      await guest.save("enforcing");
    });
  }
  const disk = join(installed, "disk.qcow2");
  const groups = [...new Set(chosen.map(({ guest }) => guest))].map((name) => async () => {
    const mine = chosen.filter((scenario) => scenario.guest === name);
    const from = { disk, name: BEGINNINGS[name] ?? "enforcing" };
    await inGuest({ ...parts, directory: join(directory, name), from }, name, (guest, report) =>
      runGroup(mine, guest, report),
    );
  });
  const queue = groups.values();
  const worker = async () => {
    for (const group of queue) await group();
  };
  await Promise.all(Array.from({ length: values.one ? 1 : AT_ONCE }, worker));
  finish();
}

async function inGuest(
  parts: GuestParts,
  label: string,
  use: (guest: Guest, report: Report) => Promise<void>,
): Promise<void> {
  mkdirSync(parts.directory, { recursive: true });
  const report = newReport(label);
  let guest: Guest | null = null;
  try {
    guest = await startGuest(parts);
    guests.add(guest);
    report.note("the guest is up");
    await use(guest, report);
  } catch (error) {
    report.check("went on to the end", false, renderErrorChain(error));
    const said = await guest?.run("journalctl -b --no-pager -u 'boundary-*' | tail -n 40").catch(() => null);
    if (said) report.note(said.stdout);
  } finally {
    if (guest !== null) {
      guests.delete(guest);
      await guest.stop();
    }
  }
}

async function runGroup(scenarios: readonly Scenario[], guest: Guest, report: Report): Promise<void> {
  const stage = createStage(guest, report);
  for (const { name, title, run } of scenarios) {
    report.note(`── ${name}: ${title}`);
    await run(stage);
  }
}

function newReport(label: string): Report {
  const report = createReport(label, begunMs);
  reports.push(report);
  return report;
}

function finish(skipped = ""): void {
  const sum = (what: "passed" | "failed") => reports.reduce((total, { tally }) => total + tally[what], 0);
  const [passed, failed] = [sum("passed"), sum("failed")];
  if (skipped !== "") console.log(`skipped: ${skipped}`);
  if (values.counts) writeFileSync(values.counts, `${passed} ${failed} ${skipped === "" ? 0 : 1}\n`);
  const seconds = ((performance.now() - begunMs) / 1_000).toFixed(0);
  console.log(`${passed} checks passed, ${failed} failed in ${seconds} s`);
  process.exitCode = failed > 0 || (passed === 0 && skipped === "") ? 1 : 0;
}

async function endEarly(why: string): Promise<void> {
  console.log(`ended early: ${why}`);
  await Promise.all([...guests].map((guest) => guest.stop()));
  if (values.counts) writeFileSync(values.counts, "0 1 0\n");
  process.exit(1);
}
