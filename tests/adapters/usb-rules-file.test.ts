import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { missingUsbPrivilege } from "../../daemon/adapters/privilege.ts";
import { openUsbRulesFile } from "../../daemon/adapters/usb-rules-file.ts";
import { usbTree } from "../support/usb-tree.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "boundary-usb-rules-"));
});

afterEach(() => rmSync(directory, { recursive: true }));

const is = (wanted: string) => (text: string) => text === wanted;

describe("the permanent rules", () => {
  test("are not there at first; what is prepared counts once it is committed, and is nobody else's to read", () => {
    const store = openUsbRulesFile(directory);
    expect(store.load(is(""))).toEqual({ kind: "missing" });
    store.prepare("allow id 1:1\n");
    expect(existsSync(store.path)).toBe(false);
    store.commit();
    expect(store.load(is("allow id 1:1\n"))).toEqual({ kind: "rules", text: "allow id 1:1\n" });
    expect(statSync(store.path).mode & 0o777).toBe(0o600);
  });

  test("after a crash are the ones that the log signed, whichever of the two they are", () => {
    const store = openUsbRulesFile(directory);
    store.prepare("one");
    store.commit();
    store.prepare("two");
    expect(store.load(is("one"))).toEqual({ kind: "rules", text: "one" });
    expect(openUsbRulesFile(directory).load(is("two"))).toEqual({ kind: "rules", text: "two" });
    expect(store.load(is("two"))).toEqual({ kind: "rules", text: "two" });
    expect(existsSync(`${store.path}.new`)).toBe(false);
  });

  test("that the log did not sign, that are no text, too long or a link are not used", () => {
    const store = openUsbRulesFile(directory);
    writeFileSync(store.path, "allow");
    expect(store.load(is("block"))).toMatchObject({
      kind: "unreadable",
      why: expect.stringContaining("signed"),
    });
    writeFileSync(store.path, Buffer.from([0xff, 0xfe]));
    expect(store.load(() => true)).toMatchObject({
      kind: "unreadable",
      why: expect.stringContaining("UTF-8"),
    });
    writeFileSync(store.path, "#".repeat(1_048_577));
    expect(store.load(() => true).kind).toBe("unreadable");
    rmSync(store.path);
    symlinkSync("/etc/hostname", store.path);
    expect(store.load(() => true).kind).toBe("unreadable");
  });

  test("that cannot be written are told so, and the present ones stand", () => {
    const store = openUsbRulesFile(join(directory, "nowhere"));
    expect(() => store.prepare("allow")).toThrow(expect.objectContaining({ code: "state-unwritable" }));
    expect(() => store.commit()).toThrow(expect.objectContaining({ code: "state-unwritable" }));
  });
});

describe("what is missing for writing to sysfs", () => {
  test("is nothing where there is no USB, and each file that is not there", () => {
    expect(missingUsbPrivilege(join(directory, "nowhere"))).toEqual([]);
    const tree = usbTree();
    expect(missingUsbPrivilege(tree.root)).toEqual([]);
    rmSync(join(tree.root, "usb1/interface_authorized_default"));
    rmSync(join(tree.root, "../drivers_probe"));
    expect(missingUsbPrivilege(tree.root)[0]).toMatch(/drivers_probe and 1 more/);
    tree.remove();
  });

  test("is not what a controller had that has gone since it was listed", () => {
    const tree = usbTree();
    symlinkSync(join(directory, "gone"), join(tree.root, "usb9"));
    expect(missingUsbPrivilege(tree.root)).toEqual([]);
    tree.remove();
  });
});
