import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

/** Interfaces of a configuration: for each its number, alternate setting and code. */
export type TreeInterface = { readonly number: number; readonly alternate?: number; readonly code: string };

export type TreeDevice = {
  readonly port: string;
  readonly id: string;
  readonly name?: string;
  readonly serial?: string;
  readonly number?: number;
  /** Of configuration 1. */
  readonly interfaces: readonly TreeInterface[];
  readonly descriptors?: Uint8Array;
};

/**
 * A tree like sysfs in a temporary directory: devices below each other, symbolic links to them in bus/usb/devices, and a
 * `write` that does what the kernel does then: interfaces come and go with `authorized`, drivers are bound by
 * `drivers_probe` to interfaces that are authorised.
 */
export type UsbTree = {
  readonly root: string;
  readonly top: string;
  readonly writes: string[];
  plug(device: TreeDevice): void;
  unplug(port: string): void;
  read(port: string, file: string): string;
  put(port: string, file: string, text: string): void;
  exists(port: string, file: string): boolean;
  readonly write: (path: string, text: string) => void;
  /** Called before each write, to play somebody else. */
  before: (path: string, text: string) => void;
  remove(): void;
};

export function usbTree(): UsbTree {
  const top = fs.mkdtempSync(join(tmpdir(), "boundary-usb-tree-"));
  const bus = join(top, "bus/usb");
  const root = join(bus, "devices");
  const controller = join(top, "devices/pci0000:00/0000:00:14.0");
  fs.mkdirSync(root, { recursive: true });
  fs.writeFileSync(join(bus, "drivers_probe"), "");
  for (const driver of ["usbhid", "usb-storage", "hub"])
    fs.mkdirSync(join(bus, "drivers", driver), { recursive: true });
  let count = 1;
  const devices = new Map<string, TreeDevice>();

  const placeOf = (port: string): string => {
    if (port.startsWith("usb")) return join(controller, port);
    const dot = port.lastIndexOf(".");
    const parent = dot > 0 ? port.slice(0, dot) : `usb${port.split("-")[0]}`;
    return join(placeOf(parent), port);
  };
  const set = (directory: string, file: string, text: string) =>
    fs.writeFileSync(join(directory, file), `${text}\n`);
  const get = (directory: string, file: string) => fs.readFileSync(join(directory, file), "utf8").trim();
  const defaultOf = (port: string, file: string) =>
    get(placeOf(`usb${port.startsWith("usb") ? port.slice(3) : port.split("-")[0]}`), file);

  const tree: UsbTree = {
    root,
    top,
    writes: [],
    before: () => undefined,
    plug(device) {
      const { port, id, name, serial } = device;
      const directory = placeOf(port);
      const [vendor = "", product = ""] = id.split(":");
      count += 1;
      fs.mkdirSync(directory, { recursive: true });
      set(directory, "idVendor", vendor);
      set(directory, "idProduct", product);
      set(directory, "devnum", String(device.number ?? count));
      if (name !== undefined) set(directory, "product", name);
      if (serial !== undefined) set(directory, "serial", serial);
      fs.writeFileSync(join(directory, "descriptors"), device.descriptors ?? descriptorsOf(device));
      if (port.startsWith("usb")) {
        set(directory, "authorized_default", "1");
        set(directory, "interface_authorized_default", "1");
      } else {
        fs.writeFileSync(join(directory, "remove"), "");
        fs.mkdirSync(join(directory, "port"));
        set(join(directory, "port"), "connect_type", "hotplug");
      }
      const isOn = port.startsWith("usb") || defaultOf(port, "authorized_default") === "1";
      set(directory, "authorized", isOn ? "1" : "0");
      devices.set(port, device);
      if (isOn) configure(port);
      fs.symlinkSync(directory, join(root, port));
    },
    unplug(port) {
      fs.rmSync(join(root, port));
      fs.rmSync(placeOf(port), { recursive: true });
    },
    read: (port, file) => get(placeOf(port), file),
    put: (port, file, text) => set(placeOf(port), file, text),
    exists: (port, file) => fs.existsSync(join(placeOf(port), file)),
    write(path, text) {
      tree.before(path, text);
      const real = join(fs.realpathSync(dirname(path)), basename(path));
      tree.writes.push(`${real.slice(real.lastIndexOf("/", real.lastIndexOf("/") - 1) + 1)} ${text}`);
      if (!fs.existsSync(real)) throw Object.assign(new Error("ENOENT"), { code: "ENOENT" });
      if (basename(real) === "drivers_probe") probe(text);
      else react(dirname(real), basename(real), text);
    },
    remove: () => fs.rmSync(top, { recursive: true, force: true }),
  };

  function configure(port: string): void {
    const value = defaultOf(port, "interface_authorized_default");
    for (const { number, alternate = 0, code } of devices.get(port)?.interfaces ?? []) {
      if (alternate !== 0) continue;
      const name = `${port.startsWith("usb") ? `${port.slice(3)}-0` : port}:1.${number}`;
      const directory = join(placeOf(port), name);
      fs.mkdirSync(directory, { recursive: true });
      set(directory, "authorized", value);
      set(directory, "bInterfaceClass", code.slice(0, 2));
      if (value === "1") bind(directory);
    }
  }

  function react(directory: string, file: string, text: string): void {
    if (file === "remove") {
      tree.unplug(basename(directory));
      return;
    }
    set(directory, file, text);
    if (file !== "authorized") return;
    const name = basename(directory);
    if (name.includes(":")) {
      if (text === "0") fs.rmSync(join(directory, "driver"), { force: true });
    } else if (text === "1") configure(name);
    else
      for (const each of fs.readdirSync(directory))
        if (each.includes(":")) fs.rmSync(join(directory, each), { recursive: true });
  }

  function probe(name: string): void {
    const port = name.split(":")[0] ?? "";
    const directory = join(placeOf(port), name);
    if (!fs.existsSync(directory)) throw Object.assign(new Error("ENODEV"), { code: "ENODEV" });
    if (get(directory, "authorized") === "1") bind(directory);
  }

  function bind(directory: string): void {
    const driver = { "03": "usbhid", "08": "usb-storage", "09": "hub" }[get(directory, "bInterfaceClass")];
    const link = join(directory, "driver");
    if (driver !== undefined && !fs.existsSync(link)) fs.symlinkSync(join(bus, "drivers", driver), link);
  }

  tree.plug({
    port: "usb1",
    id: "1d6b:0002",
    name: "xHCI",
    serial: "0000:00:14.0",
    interfaces: [{ number: 0, code: "09:00:00" }],
  });
  return tree;
}

/** As the kernel gives them out: device descriptor, configuration 1 with its interfaces. */
export function descriptorsOf({ id, interfaces }: Pick<TreeDevice, "id" | "interfaces">): Buffer {
  const [vendor = 0, product = 0] = id.split(":").map((text) => Number.parseInt(text, 16));
  const device = Buffer.from([18, 1, 0, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
  device.writeUInt16LE(vendor, 8);
  device.writeUInt16LE(product, 10);
  const body = interfaces.map(({ number, alternate = 0, code }) => {
    const [class_ = 0, subclass = 0, protocol = 0] = code.split(":").map((text) => Number.parseInt(text, 16));
    const endpoint = [7, 5, 0x81, 3, 8, 0, 10];
    return Buffer.from([9, 4, number, alternate, 1, class_, subclass, protocol, 0, ...endpoint]);
  });
  const total = 9 + body.reduce((sum, each) => sum + each.length, 0);
  const count = new Set(interfaces.map(({ number }) => number)).size;
  const head = Buffer.from([9, 2, total & 0xff, total >> 8, count, 1, 0, 0x80, 50]);
  return Buffer.concat([device, head, ...body]);
}
