import { expect, test } from "vitest";
import { closeControllers } from "../../daemon/usb-close.ts";
import { FakeUsb, STICK } from "../support/fake-usb.ts";

const never = () => Promise.reject(new Error("it does not wait"));

test("closes the controllers and leaves what is there; what udev has closed is not written again", async () => {
  const usb = new FakeUsb();
  usb.plug(STICK);
  expect(await closeControllers(usb, never)).toBe("");
  expect([usb.defaults, usb.writes]).toEqual([{ device: "0", interface: "0" }, ["usb1 closed"]]);
  usb.fails.add("usb1");
  expect(await closeControllers(usb, never)).toBe("");
  expect(usb.isAuthorized("1-3")).toBe(true);
});

test("waits for udev to give the files away, and for a listing; not for ever, and says why", async () => {
  for (const what of ["usb1", "list"]) {
    const usb = new FakeUsb();
    usb.fails.add(what);
    let waitedMs = 0;
    const why = await closeControllers(usb, async (ms) => {
      waitedMs += ms;
      if (waitedMs === 300) usb.fails.clear();
    });
    expect([why, waitedMs, usb.defaults.device]).toEqual(["", 300, "0"]);
  }
  const usb = new FakeUsb();
  usb.fails.add("usb1");
  let waitedMs = 0;
  const why = await closeControllers(usb, async (ms) => {
    waitedMs += ms;
  });
  expect(why).toContain("usb1");
  expect(waitedMs).toBeLessThan(10_000);
});

test("one controller that cannot be closed does not keep the others open", async () => {
  const closed: string[] = [];
  const glance = () =>
    ["usb1", "usb2", "usb3"].map((port) => ({
      port,
      number: "1",
      authorized: true,
      instance: port,
      interfaces: [],
      defaults: closed.includes(port) ? { device: "0", interface: "0" } : { device: "1", interface: "1" },
    }));
  const setDefaults = (port: string) => {
    if (port === "usb2") throw new Error("EACCES");
    closed.push(port);
  };
  expect(await closeControllers({ glance, setDefaults }, async () => undefined)).toBe("EACCES");
  expect(closed).toEqual(["usb1", "usb3"]);
});
