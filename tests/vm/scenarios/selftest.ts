import type { Stage } from "../stage.ts";

type Reply = {
  readonly results: readonly { readonly name: string; readonly outcome: string; readonly detail: string }[];
};

/** What `status` claims is tried out, in the unit as it is shipped: its sandbox refuses packets of its own too. */
export async function selftest(stage: Stage): Promise<void> {
  await setMode(stage, "RESTRICTED");
  await passes(stage, "RESTRICTED", ["rules-read-back", "canary-packet", "usb-read-back"]);
  // else no packet would get as far as our rules
  await stage.guest.ok("ip route add default via 10.66.0.1 && ip -6 route add default via fd66::1");
  await setMode(stage, "AIRGAP");
  await passes(stage, "AIRGAP", ["rules-read-back", "canary-packet", "mode-refuses", "usb-read-back"]);
}

async function passes(stage: Stage, mode: string, wanted: readonly string[]): Promise<void> {
  const { guest, check } = stage;
  const deny = await guest.ok("systemctl show -P IPAddressDeny boundary-daemon");
  check(
    `${mode}: the unit's own filter refuses every address`,
    deny.includes("0.0.0.0/0") && deny.includes("::/0"),
    deny,
  );
  const ran = await stage.ctl("selftest", "--json");
  const { results } = (ran.stdout === "" ? { results: [] } : JSON.parse(ran.stdout)) as Reply;
  check(`${mode}: selftest ends with 0, as the operator`, ran.code === 0, ran);
  const always = ["event-to-record", "canary-file", "log-read-back"];
  for (const name of [...wanted, ...always]) {
    const found = results.find((one) => one.name === name);
    check(`${mode}: ${name} passed`, found?.outcome === "passed", found ?? results);
  }
  const last = (await stage.records("selftest.done")).at(-1)?.data;
  check(`${mode}: and it is in the log`, last?.["by"] === "olga" && last["failed"] === 0, last);
}

async function setMode(stage: Stage, mode: string): Promise<void> {
  const set = await stage.ctl("mode", "set", mode, "--reason", "the test goes on");
  stage.check(`an operator sets ${mode}`, set.code === 0, set);
}
