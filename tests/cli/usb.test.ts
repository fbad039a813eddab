import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { renderUsbList } from "../../cli/commands/usb.ts";
import type { UsbDeviceView, UsbList } from "../../daemon/protocol/messages.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { boundaryctl, type Ran } from "../support/boundaryctl.ts";
import { directoryOfFile } from "../support/directory-of-file.ts";
import { type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const STICK: UsbDeviceView = {
  port: "1-3",
  id: "0781:5581",
  name: "Ultra",
  serial: "4C53",
  hash: "aGFzaA==",
  interfaces: ["08:06:50"],
  connectType: "hotplug",
  authorized: "no",
  drivers: [],
  target: "block",
  refused: [],
  rule: "",
  why: "TRUSTED: no storage",
  until: "",
  failure: "",
};
const LIST: UsbList = {
  control: { name: "usb", state: "enforced", detail: "1 controllers closed", checkedAt: "" },
  devices: [STICK],
  more: 2,
  controllers: [{ port: "usb1", newDevices: "refused", newInterfaces: "refused" }],
  rules: { permanent: 1, configured: 2 },
  wouldBlock: 0,
};
const DIRECTORY = directoryOfFile("cli-usb");

let daemon: FakeDaemon | undefined;
afterEach(async () => {
  await daemon?.stop();
  daemon = undefined;
});

async function run(behaviours: Parameters<typeof fakeDaemon>[0], ...args: string[]): Promise<Ran> {
  daemon = await fakeDaemon(behaviours);
  return boundaryctl(["usb", ...args, "--runtime-dir", daemon.runtimeDir]);
}

const file = (text: string): string => {
  const path = join(DIRECTORY, "usb.rules");
  writeFileSync(path, text);
  return path;
};

describe("usb, with a daemon", () => {
  test("list shows each device, what is held of it and why", async () => {
    const { code, stdout } = await run({ "usb.list": { data: LIST } }, "list");
    expect(code).toBe(0);
    expect(stdout).toContain("1 permanent, then 2 of the configuration");
    expect(stdout).toMatch(/1-3 +0781:5581 +blocked +08:06:50 +Ultra, serial 4C53: TRUSTED: no storage/);
    expect(stdout).toContain("… and 2 more");
  });

  test("a name of a device cannot steer the terminal", () => {
    const lines = renderUsbList({ ...LIST, devices: [{ ...STICK, name: "\u001b[31mred\u202e" }] });
    for (const steering of ["\u001b", "\u202e"]) expect(lines.join("")).not.toContain(steering);
  });

  test("list ends with 1 where USB is not held as it should be", async () => {
    const failed = { ...LIST, control: { ...LIST.control, state: "failed" as const } };
    expect((await run({ "usb.list": { data: failed } }, "list")).code).toBe(1);
  });

  test("allow asks for a time or for good, and says until when", async () => {
    const reply = { device: { ...STICK, target: "allow" }, until: "2026-01-01T00:10:00.000Z", rule: "" };
    const { code, stdout } = await run({ "usb.allow": { data: reply } }, "allow", "1-3", "--for", "10m");
    expect(code).toBe(0);
    expect(stdout).toContain("until 2026-01-01T00:10:00.000Z");
    expect(daemon?.requests[0]?.params).toEqual({ device: "1-3", permanent: false, forMs: 600_000 });
  });

  test("a refusal is told with its code, and 1", async () => {
    const refused = { problem: problem("usb-ceiling", "TRUSTED: no storage") };
    const { code, stderr } = await run({ "usb.allow": refused }, "allow", "1-3");
    expect(code).toBe(1);
    expect(stderr).toContain("usb-ceiling");
  });

  test.each([
    [["allow", "1-3", "--permanent", "--for", "10m"]],
    [["allow", "1-3", "--for", "soon"]],
    [["allow"]],
    [["check", "/nonexistent/usb.rules"]],
  ])("%j is a mistake in the call: 2", async (args) => {
    expect((await run({}, ...args)).code).toBe(2);
  });

  test("explain and generate-policy show what came", async () => {
    const told = {
      device: STICK,
      rules: [{ rule: "allow id 1:1", matched: false, because: "id is another" }],
      more: 0,
    };
    expect((await run({ "usb.explain": { data: told } }, "explain", "1-3")).stdout).toContain(
      "id is another",
    );
    await daemon?.stop();
    const text = "# proposed\nallow id 0781:5581\n";
    const { stdout } = await run(
      { "usb.generate": { data: { text, devices: 1 } } },
      "generate-policy",
      "--no-hashes",
    );
    expect(stdout).toBe(text);
    expect(daemon?.requests[0]?.params).toEqual({ ports: false, hashes: false });
  });
});

describe("usb, without a daemon", () => {
  test("check names the line and column of a mistake, and counts the rules of a good file", async () => {
    const bad = await boundaryctl(["usb", "check", file("allow\nallow with-interfaces 08:*:*\n")]);
    expect(bad.code).toBe(1);
    expect(bad.stdout).toMatch(/usb\.rules:2:7: .*with-interface/);
    const good = await boundaryctl(["usb", "check", file("allow id 1234:5678\n"), "--json"]);
    expect(good.code).toBe(0);
    expect(JSON.parse(good.stdout)).toMatchObject({ ok: true, rules: 1 });
  });

  test("import prints the rules to keep and tells the rest aside; a mistake is 1", async () => {
    const good = await boundaryctl(["usb", "import", file("# mine\nallow id 1234:5678\n")]);
    expect(good).toMatchObject({ code: 0, stdout: "# mine\nallow id 1234:5678\n" });
    expect(good.stderr).toContain("warning");
    expect((await boundaryctl(["usb", "import", file("permit everything\n")])).code).toBe(1);
  });
});
