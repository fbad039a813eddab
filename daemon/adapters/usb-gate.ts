import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import { isDeviceName, isInterfaceOf } from "../core/usb-device.ts";
import { usbControllerHash, usbHash } from "../core/usb-hash.ts";
import { describeInterfaces } from "../core/usb-interfaces.ts";
import type { UsbGate, UsbLook, UsbOrder, UsbState } from "../ports.ts";

export type UsbGateOptions = {
  /** The directory of devices in sysfs; `drivers_probe` is beside it. */
  readonly root?: string;
  /** Writes to a file that is there. A test's own also does what the kernel would do then. */
  readonly write?: (path: string, text: string) => void;
};

const MAX_ENTRIES = 1_024;
const MAX_SHORT_BYTES = 64;
const MAX_TEXT_BYTES = 512; // a string descriptor has 126 characters at most
const MAX_DESCRIPTOR_BYTES = 65_553; // what the kernel gives out: more is cut, and does not add up
const CHUNK_BYTES = 1_024;
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/**
 * The kernel's authorisation of USB devices through sysfs (kernel: Documentation/usb/authorization.rst). A device is
 * opened as a directory, looked at through it and written through it: what is unplugged meanwhile has no files any more,
 * so nothing is written to whatever took its port.
 */
export function createUsbGate(options: UsbGateOptions = {}): UsbGate {
  const { root = "/sys/bus/usb/devices", write = writeFile } = options;
  const probeFile = join(dirname(root), "drivers_probe");

  function ports(): readonly string[] {
    let names: readonly string[];
    try {
      // asked first: where there is no USB, an error every second costs more than all else that USB does
      if (statSync(root, { throwIfNoEntry: false }) === undefined) return [];
      names = readdirSync(root);
    } catch (cause) {
      if (isAbsence(cause)) return [];
      throw failed(`listing ${root}`, cause);
    }
    if (names.length > MAX_ENTRIES) throw failed(`listing ${root}`, `more than ${MAX_ENTRIES} entries`);
    return names.filter(isDeviceName).toSorted(byDepth);
  }

  /** Null when it has gone since it was listed. */
  function inDevice<T>(port: string, work: (directory: string) => T): T | null {
    let fd: number;
    try {
      fd = openSync(join(root, port), O_RDONLY | O_DIRECTORY);
    } catch (cause) {
      if (isAbsence(cause)) return null;
      throw failed(`opening ${port}`, cause);
    }
    try {
      return work(`/proc/self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  }

  function setInOpened(look: UsbLook, order: UsbOrder, directory: string): void {
    const { port } = look;
    const isSame = readNumber(directory) === look.number && readInstance(directory) === look.instance;
    if (!isSame || readDescriptors(directory).print !== look.print)
      throw failed(`writing to ${port}`, "another device has taken its place");
    const put = (name: string, text: "0" | "1") => putAndCheck(port, directory, name, text);
    if (order.device !== "allow") {
      if (!port.startsWith("usb")) put("authorized", "0");
      if (order.device === "reject") write(join(directory, "remove"), "1");
      return;
    }
    const wanted = (name: string) => order.interfaces === "all" || order.interfaces.has(name);
    const unwanted = () => {
      for (const one of readInterfaces(port, directory))
        if (!wanted(one.name) && one.authorized !== false) put(`${one.name}/authorized`, "0");
    };
    unwanted();
    if (readFlag(directory, "authorized") !== true) {
      if (order.interfaces !== "all") requireClosedBus(port);
      put("authorized", "1");
      unwanted(); // the kernel has made them only now
    }
    // all of them before the first driver looks: some need several
    for (const one of readInterfaces(port, directory))
      if (wanted(one.name) && one.authorized !== true) put(`${one.name}/authorized`, "1");
    for (const one of readInterfaces(port, directory)) {
      if (wanted(one.name) && one.driver === "") probe(one.name);
    }
  }

  /** Else the interfaces that are refused would have their drivers before they can be taken away. */
  function requireClosedBus(port: string): void {
    const controller = `usb${/^\d+/.exec(port)?.[0] ?? ""}`;
    const value = readShort(join(root, controller, "interface_authorized_default"));
    if (value !== "0")
      throw failed(`authorising ${port}`, `${controller} authorises new interfaces by itself (${value})`);
  }

  /** A device that is gone cannot be probed, and needs not. */
  function probe(name: string): void {
    try {
      write(probeFile, name);
    } catch (cause) {
      throw failed(`looking for a driver for ${name}`, cause);
    }
  }

  function putAndCheck(port: string, directory: string, name: string, text: "0" | "1"): void {
    try {
      write(join(directory, name), text);
    } catch (cause) {
      throw failed(`writing ${text} to ${port}/${name}`, cause);
    }
    const found = readShort(join(directory, name));
    if (found !== text) throw failed(`writing ${text} to ${port}/${name}`, `it reads ${found ?? "nothing"}`);
  }

  return {
    list: () => {
      const hashes = new Map<string, string>();
      return ports().flatMap((port) => {
        const look = inDevice(port, (directory) =>
          readLook(port, directory, hashes.get(parentOf(port)) ?? controllerOf(port, directory)),
        );
        if (look === null) return [];
        hashes.set(port, look.facts.hash);
        return [look];
      });
    },
    glance: () => ports().flatMap((port) => inDevice(port, (directory) => readState(port, directory)) ?? []),
    setDefaults: (port, to) => {
      const text = to === "open" ? "1" : "0";
      const done = inDevice(port, (directory) => {
        // interfaces first when closing, last when opening: no moment lets in more than both ends
        const names = ["interface_authorized_default", "authorized_default"];
        for (const name of to === "open" ? names.toReversed() : names)
          putAndCheck(port, directory, name, text);
        return true;
      });
      if (done === null) throw failed(`closing ${port}`, "it is gone");
    },
    set: (look, order) => {
      const done = inDevice(look.port, (directory) => {
        setInOpened(look, order, directory);
        return true;
      });
      if (done === null && order.device === "allow") throw failed(`authorising ${look.port}`, "it is gone");
    },
  };
}

function readState(port: string, directory: string): UsbState {
  const device = readShort(join(directory, "authorized_default"));
  return {
    port,
    number: readNumber(directory),
    instance: readInstance(directory),
    authorized: readFlag(directory, "authorized"),
    interfaces: readInterfaces(port, directory),
    defaults: port.startsWith("usb")
      ? { device: device ?? "", interface: readShort(join(directory, "interface_authorized_default")) ?? "" }
      : null,
  };
}

function readLook(port: string, directory: string, parentHash: string): UsbLook {
  const state = readState(port, directory);
  const name = readText(directory, "product");
  const serial = readText(directory, "serial");
  const { bytes, print } = readDescriptors(directory);
  const described = describeInterfaces(port.startsWith("usb") ? `${port.slice(3)}-0` : port, bytes);
  const id = `${hexOf(directory, "idVendor")}:${hexOf(directory, "idProduct")}`;
  const interfaces = described.ok ? described.interfaces : [];
  const problem = [
    described.ok ? null : described.problem,
    id.includes("?") ? "its vendor and product cannot be read" : null,
    name === null || serial === null ? "its name or serial number cannot be read" : null,
    state.number === "" ? "its number cannot be read" : null,
  ].find((one) => one !== null);
  const texts = { id, name: name ?? "", serial: serial ?? "" };
  return {
    ...state,
    facts: {
      port,
      ...texts,
      hash: problem === undefined ? usbHash(texts, bytes) : "",
      parentHash,
      interfaces: interfaces.flatMap(({ codes }) => codes),
      connectType: readShort(join(directory, "port/connect_type")) ?? "",
    },
    described: interfaces,
    problem: problem ?? null,
    print,
  };
}

/** `parent-hash` of a root hub; "" of anything else, and where it cannot be told. */
function controllerOf(port: string, directory: string): string {
  if (!port.startsWith("usb")) return "";
  try {
    return usbControllerHash(dirname(readlinkSync(directory)).replace(/^\/sys\//, "/"));
  } catch {
    return "";
  }
}

function readInterfaces(port: string, directory: string): UsbState["interfaces"] {
  return readdirSync(directory)
    .filter((name) => isInterfaceOf(port, name))
    .toSorted()
    .slice(0, MAX_ENTRIES)
    .map((name) => ({
      name,
      authorized: readFlag(directory, `${name}/authorized`),
      driver: driverOf(join(directory, name)),
    }));
}

function driverOf(directory: string): string {
  try {
    return basename(readlinkSync(join(directory, "driver"))).slice(0, MAX_SHORT_BYTES);
  } catch {
    return ""; // none is bound
  }
}

function readNumber(directory: string): string {
  const number = readShort(join(directory, "devnum")) ?? "";
  return /^\d{1,5}$/.test(number) ? number : "";
}

/** Its inode: sysfs gives each directory one that no other has had in this boot (kernel: fs/kernfs, kernfs_ino). */
function readInstance(directory: string): string {
  return String(statSync(directory, { bigint: true }).ino);
}

function readFlag(directory: string, name: string): boolean | null {
  const text = readShort(join(directory, name));
  return text === "1" ? true : text === "0" ? false : null;
}

function hexOf(directory: string, name: string): string {
  const text = readShort(join(directory, name))?.toLowerCase() ?? "";
  return /^[0-9a-f]{4}$/.test(text) ? text : "????";
}

/** All of them, and their digest; empty when they are more than the kernel gives out. */
function readDescriptors(directory: string): { readonly bytes: Buffer; readonly print: string } {
  const bytes = readBounded(join(directory, "descriptors"), MAX_DESCRIPTOR_BYTES) ?? Buffer.alloc(0);
  return { bytes, print: createHash("sha256").update(bytes).digest("hex") };
}

function readShort(path: string): string | null {
  return readBounded(path, MAX_SHORT_BYTES)?.toString("latin1").trim() ?? null;
}

/** What a device says of itself: "" when it says nothing, null when it is no text. */
function readText(directory: string, name: string): string | null {
  const path = join(directory, name);
  const bytes = readBounded(path, MAX_TEXT_BYTES, "tell");
  if (bytes === "missing") return "";
  if (bytes === null) return null;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return text.includes("\0") ? null : text.replace(/\n$/, "");
  } catch {
    return null;
  }
}

function readBounded(path: string, most: number): Buffer | null;
function readBounded(path: string, most: number, missing: "tell"): Buffer | "missing" | null;
/** The file, or null when it cannot be read or is longer than that. */
function readBounded(path: string, most: number, missing?: "tell"): Buffer | "missing" | null {
  let fd: number;
  try {
    fd = openSync(path, O_RDONLY | O_NONBLOCK);
  } catch (error) {
    return missing === "tell" && isAbsence(error) ? "missing" : null;
  }
  try {
    if (!fstatSync(fd).isFile()) return null;
    const chunks: Buffer[] = [];
    let used = 0;
    while (used <= most) {
      const chunk = Buffer.alloc(Math.min(most + 1 - used, CHUNK_BYTES));
      const got = readSync(fd, chunk, 0, chunk.length, null);
      if (got === 0) break;
      chunks.push(chunk.subarray(0, got));
      used += got;
    }
    return used > most ? null : Buffer.concat(chunks);
  } catch {
    return null;
  } finally {
    closeSync(fd);
  }
}

function writeFile(path: string, text: string): void {
  const fd = openSync(path, O_WRONLY | O_NOFOLLOW);
  try {
    writeSync(fd, text);
  } finally {
    closeSync(fd);
  }
}

/** What a device hangs on: "1-2.4" on "1-2", "1-2" on "usb1". */
function parentOf(port: string): string {
  const dot = port.lastIndexOf(".");
  if (dot > 0) return port.slice(0, dot);
  return port.startsWith("usb") ? "" : `usb${port.split("-")[0] ?? ""}`;
}

/** What carries something comes before it. */
function byDepth(a: string, b: string): number {
  const depth = (port: string) => (port.startsWith("usb") ? 0 : port.split(".").length);
  return depth(a) - depth(b) || a.localeCompare(b, "en", { numeric: true });
}

function isAbsence(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ENOENT" || code === "ENOTDIR" || code === "ENODEV";
}

function failed(doing: string, cause: unknown): BoundaryError {
  return new BoundaryError("usb-failed", doing, {
    cause: cause instanceof Error ? cause : new Error(String(cause)),
  });
}
