import { describe, expect, test } from "vitest";
import type { Hold } from "../daemon/core/hold.ts";
import { usbProbe } from "../daemon/usb-probe.ts";
import { COMPOSITE, FakeUsb, KEYBOARD, STICK } from "./support/fake-usb.ts";
import { settled } from "./support/host.ts";
import { usbHost } from "./support/usb-host.ts";

async function inTrusted() {
  const usb = new FakeUsb();
  for (const device of [KEYBOARD, STICK, COMPOSITE]) usb.plug(device);
  const host = usbHost({ usb, mode: "TRUSTED" });
  await host.enter("TRUSTED");
  await settled();
  const run = (hold: Hold = "enforcing") => usbProbe(host.control, () => hold).run();
  return { usb, run };
}

describe("the USB self-test", () => {
  test("passes while everything is as decided", async () => {
    const { run } = await inTrusted();
    expect(await run()).toMatchObject({ outcome: "passed" });
  });

  test.each([
    ["a device", "1-3", null, "1-3 is authorised, and was decided to be kept out"],
    ["one interface", "1-4", "1-4:1.1", "1-4:1.1 is authorised, and was decided to be kept out"],
  ] as const)("fails when %s was authorised by somebody else", async (_what, port, name, detail) => {
    const { usb, run } = await inTrusted();
    usb.tamper(port, name);
    expect(await run()).toEqual({ outcome: "failed", detail });
  });

  test("fails when a controller lets in what is new", async () => {
    const { usb, run } = await inTrusted();
    usb.defaults = { device: "1", interface: "0" };
    expect(await run()).toEqual({ outcome: "failed", detail: "usb1 lets in what is new" });
  });

  test("is not run where nothing is held", async () => {
    const { run } = await inTrusted();
    expect(await run("shadow")).toMatchObject({ outcome: "moot" });
    expect(await run("released")).toMatchObject({ outcome: "moot" });
  });
});
