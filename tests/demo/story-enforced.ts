import { execFileSync } from "node:child_process";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { linesOf, recordOf } from "../audit/fixture.ts";
import { type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import {
  ADDRESS,
  ALL_PATHS,
  createHostBetween,
  type HostBetween,
  inBothFamilies,
  PORT,
  probe,
} from "../support/host-between.ts";
import { delay, eventually } from "../support/packets.ts";
import { type Ctl, createCtl } from "./ctl.ts";
import { askAll, IN_AIRGAP, IN_RESTRICTED } from "./decisions.ts";
import { OFTEN, tellGrants } from "./grants.ts";
import { verifyStory } from "./log-story.ts";
import type { Report } from "./report.ts";
import { shippedTripwiresAnd } from "./tripwires.ts";

const LINK_UP = fileURLToPath(new URL("../support/link-up.ts", import.meta.url));
const DEAD_MAN_MS = 2_000;
/** A link that is there from the start, and down. */
const SPARE_LINK = "spare0";

type Story = {
  readonly report: Report;
  readonly home: DaemonHome;
  readonly ctl: Ctl;
  readonly between: HostBetween;
  readonly watched: string;
};

/** As root: a host between two neighbours, in namespaces made for it. The rules never come near the real host's. */
export async function tellEnforced(report: Report, home: DaemonHome): Promise<void> {
  const watched = join(home.path, "watched");
  writeFileSync(watched, "one\n", { mode: 0o600 });
  const tripwiresFile = join(home.path, "etc", "tripwires.yaml");
  writeFileSync(tripwiresFile, shippedTripwiresAnd(watched), { mode: 0o600 });
  writeFileSync(
    home.configFile,
    stringify({
      initialMode: "OPEN",
      tripwiresFile,
      enforcement: { network: true, firstStart: "shadow", deadManMs: DEAD_MAN_MS },
      ceremony: { coolDownMs: 1_000 },
      limits: OFTEN,
    }),
  );
  const story: Story = { report, home, ctl: createCtl(home), between: await createHostBetween(), watched };
  const first = await startInShadow(story);
  await enforce(story);
  await showStatus(story);
  await closeToAirgap(story);
  await fireNetworkTripwire(story);
  await fireFileTripwires(story);
  const second = await crash(story, first);
  await decide(story);
  await endAndVerify(story, second);
}

async function startInShadow(story: Story): Promise<DaemonProcess> {
  const { report, home, between } = story;
  report.step(1, "A host with two neighbours; boundary-daemon starts in it for the first time, in shadow");
  between.netns.host.exec("ip", "link", "add", SPARE_LINK, "type", "veth", "peer", "name", `${SPARE_LINK}p`);
  report.saw(
    "without a daemon every packet arrives",
    same(await probe(between), inBothFamilies(ALL_PATHS)),
    "in, out, forwarded, loopback; IPv4 and IPv6",
  );
  const daemon = await startDaemon(home, { netns: between.netns.host.name });
  report.saw("the daemon is ready", true, `${daemon.readyMs.toFixed(0)} ms from its start`);
  return daemon;
}

async function enforce({ report, ctl, between }: Story): Promise<void> {
  await ctl.run("mode", "set", "airgap", "--reason", "what would it cut?");
  report.saw(
    "AIRGAP in shadow refuses nothing, and says it is only observed",
    same(await probe(between), inBothFamilies(ALL_PATHS)) &&
      ((await ctl.json("status")) as unknown as StatusShape).assurance === "observed",
  );
  const would = await ctl.run("enforce", "--dry-run");
  report.saw("what it would have refused is listed", would.stdout.includes(ADDRESS.left[4]));
  const back = await ctl.run("mode", "set", "open", "--reason", "seen");
  const { code } = await ctl.run("enforce", "--reason", "the demo means it");
  report.saw("boundaryctl enforce: held by the kernel from here on", back.code === 0 && code === 0);
  report.saw("in OPEN every packet still arrives", same(await probe(between), inBothFamilies(ALL_PATHS)));
}

async function showStatus({ report, ctl }: Story): Promise<void> {
  report.step(2, "boundaryctl status");
  const { stdout, code } = await ctl.run("status");
  for (const line of stdout.trimEnd().split("\n")) report.note(line.slice(0, 150));
  const status = (await ctl.json("status")) as unknown as StatusShape;
  const control = status.controls.find((one) => one.name === "network");
  report.saw(
    "wanted and applied are OPEN",
    code === 0 && status.mode.wanted === "OPEN" && status.mode.applied === "OPEN",
  );
  report.saw(
    "the network is enforced, and was checked",
    control?.state === "enforced" && control.checkedAt !== "",
    control?.detail ?? "",
  );
  report.saw(
    "the log has a head and a key",
    status.log.size > 0 && status.log.root.length === 64 && status.log.vkey.includes("+"),
  );
}

async function closeToAirgap({ report, ctl, between }: Story): Promise<void> {
  report.step(3, 'boundaryctl mode set airgap --reason "…"');
  const flow = await between.agents.host.call("connectTcp", { to: ADDRESS.right[4], port: PORT });
  await between.agents.host.call("sendTcp", { flow, token: "before" });
  report.saw(
    "a TCP flow is established",
    await eventually(async () => (await between.agents.host.call("echoed")) === "before"),
  );
  const { code, stdout } = await ctl.run("mode", "set", "airgap", "--reason", "the demo asks for it");
  report.saw(
    "AIRGAP is wanted, applied and enforced",
    code === 0 && /applied +AIRGAP/.test(stdout) && stdout.includes("enforced"),
  );
  report.saw(
    "nothing arrives but over loopback",
    same(await probe(between), inBothFamilies(["loopback"])),
    "in, out, forwarded; IPv4 and IPv6",
  );
  await between.agents.host.call("sendTcp", { flow, token: "after" });
  await delay(300);
  report.saw("the established flow is cut", (await between.agents.host.call("echoed")) === "before");
  const { drops } = (await ctl.json("status")) as unknown as StatusShape;
  const counted = Object.entries(drops).filter(([, packets]) => packets > 0);
  report.saw(
    "the drop counters moved",
    ["in", "out"].every((direction) => counted.some(([name]) => name.endsWith(`_${direction}`))),
    counted.map(([name, packets]) => `${name} ${packets}`).join(", "),
  );
  const tried = await ctl.run("selftest");
  report.saw("boundaryctl selftest: what status claims was tried out", tried.code === 0);
  for (const line of tried.stdout.trimEnd().split("\n")) report.note(line.slice(0, 150));
}

async function fireNetworkTripwire({ report, ctl, between, home }: Story): Promise<void> {
  report.step(4, "A link comes up in AIRGAP: the network tripwire");
  const since = linesOf(home.logDir).length;
  const { before } = JSON.parse(between.netns.host.exec(process.execPath, LINK_UP, SPARE_LINK)) as {
    before: string;
  };
  const fell = await eventually(
    async () => ((await ctl.json("status")) as unknown as StatusShape).mode.applied === "LOCKDOWN",
  );
  report.saw("LOCKDOWN is wanted and applied", fell);
  const applied = linesOf(home.logDir)
    .slice(since)
    .map(recordOf)
    .find((record) => record.kind === "mode.applied" && record.data["mode"] === "LOCKDOWN");
  const ms = Number(BigInt(applied?.mono ?? 0) - BigInt(before)) / 1e6;
  report.saw("from the kernel's event to the rules confirmed", ms > 0 && ms < 1_000, `${ms.toFixed(1)} ms`);
  report.saw("nothing passes, loopback included", same(await probe(between), []));
}

async function fireFileTripwires(story: Story): Promise<void> {
  const { report, ctl, watched } = story;
  report.step(5, "Out by ceremony, and three ways to touch a watched file");
  await leaveLockdown(story, "the demo brought the link up");
  const touches: readonly (readonly [string, () => void])[] = [
    ["written", () => writeFileSync(watched, "two\n")],
    ["replaced (renamed over)", () => replace(watched)],
    ["deleted", () => rmSync(watched)],
  ];
  for (const [name, touch] of touches) {
    touch();
    const fell = await eventually(
      async () => ((await ctl.json("status")) as unknown as StatusShape).mode.applied === "LOCKDOWN",
    );
    const { mode } = (await ctl.json("status")) as unknown as StatusShape;
    report.saw(`the file ${name}: LOCKDOWN`, fell && mode.cause.includes(watched), mode.cause.slice(0, 90));
    await leaveLockdown(story, `the demo's own doing: ${name}`);
  }
}

async function leaveLockdown({ report, ctl }: Story, reason: string): Promise<void> {
  const refused = await ctl.run("mode", "set", "open", "--reason", "without a ceremony");
  const { code, stdout } = await ctl.ceremony(reason);
  const { mode } = (await ctl.json("status")) as unknown as StatusShape;
  const out =
    refused.code === 1 && code === 0 && mode.applied === "RESTRICTED" && stdout.includes("cool-down");
  report.saw("by ceremony only: presence, cool-down, code; into RESTRICTED", out, out ? "" : stdout);
}

async function crash(story: Story, daemon: DaemonProcess): Promise<DaemonProcess> {
  const { report, ctl, between, home } = story;
  report.step(6, "kill -9 of the daemon");
  report.saw("in RESTRICTED packets arrive", same(await probe(between), inBothFamilies(ALL_PATHS)));
  await daemon.kill();
  const killedMs = performance.now();
  const closed = await eventually(async () => (await probe(between)).length === 0);
  report.saw(
    "the kernel drops everything, by itself",
    closed,
    `closed within ${((performance.now() - killedMs) / 1_000).toFixed(1)} s; the dead-man's time is ${DEAD_MAN_MS / 1_000} s`,
  );
  const inside = processesIn(between.netns.host.name).filter((one) => one.pid !== between.agents.host.pid);
  report.saw(
    "no process of ours was running",
    inside.length === 0,
    inside.map((one) => one.command).join("; "),
  );
  report.saw("boundaryctl says that there is no daemon", (await ctl.run("status")).code === 3);
  const next = await startDaemon(home, { netns: between.netns.host.name, args: ["--mode", "open"] });
  const { mode } = (await ctl.json("status")) as unknown as StatusShape;
  report.saw(
    "the next start is LOCKDOWN, and says why",
    mode.wanted === "LOCKDOWN" && mode.cause.startsWith("crash"),
    mode.cause,
  );
  report.saw("nothing passes", same(await probe(between), []));
  return next;
}

async function decide(story: Story): Promise<void> {
  const { report, ctl } = story;
  report.step(7, "A service asks for decisions");
  await leaveLockdown(story, "the demo killed the daemon");
  await askAll(report, ctl, "RESTRICTED", IN_RESTRICTED);
  await tellGrants(report, ctl, story.home, { asNobody: true });
  await ctl.run("mode", "set", "airgap", "--reason", "for the second half");
  await askAll(report, ctl, "AIRGAP", IN_AIRGAP);
}

async function endAndVerify({ report, ctl, home, between }: Story, daemon: DaemonProcess): Promise<void> {
  report.step(8, "boundaryctl verify-log: offline, with the public key alone");
  const { code, ms } = await daemon.stop();
  report.saw("SIGTERM ends the daemon cleanly", code === 0, `${ms.toFixed(0)} ms`);
  await delay(DEAD_MAN_MS + 200);
  report.saw(
    "the rules of AIRGAP stay, without the dead-man",
    same(await probe(between), inBothFamilies(["loopback"])),
  );
  await verifyStory(report, ctl, home);
}

type StatusShape = {
  readonly assurance: string;
  readonly mode: { readonly wanted: string; readonly applied: string; readonly cause: string };
  readonly controls: readonly {
    readonly name: string;
    readonly state: string;
    readonly detail: string;
    readonly checkedAt: string;
  }[];
  readonly drops: Readonly<Record<string, number>>;
  readonly log: { readonly size: number; readonly root: string; readonly vkey: string };
};

function same(seen: readonly string[], told: readonly string[]): boolean {
  return JSON.stringify(seen.toSorted()) === JSON.stringify(told.toSorted());
}

function replace(path: string): void {
  writeFileSync(`${path}.new`, "three\n", { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function processesIn(netns: string): readonly { readonly pid: number; readonly command: string }[] {
  const pids = execFileSync("/usr/sbin/ip", ["netns", "pids", netns], { encoding: "utf8" })
    .split("\n")
    .filter(Boolean);
  return pids.map((pid) => ({
    pid: Number(pid),
    command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " "),
  }));
}
