import { createHash } from "node:crypto";
import { BoundaryError } from "../../daemon/core/errors.ts";
import type { DescribedInterface } from "../../daemon/core/usb-interfaces.ts";
import type { UsbGate, UsbLook, UsbOrder, UsbState } from "../../daemon/ports.ts";

export type FakeDevice = {
  readonly port: string;
  readonly id: string;
  readonly name: string;
  readonly serial: string;
  /** The codes of each interface of its one configuration. */
  readonly codes: readonly (readonly string[])[];
  readonly problem?: string;
  /** A driver that the kernel binds whatever the class says. */
  readonly driver?: string;
};

type Plugged = {
  readonly device: FakeDevice;
  readonly number: string;
  readonly instance: string;
  authorized: boolean;
  readonly live: Map<string, boolean>;
};

export const KEYBOARD: FakeDevice = device("1-1", "046d:c31c", "Keyboard", "", [["03:01:01"], ["03:00:00"]]);
export const MOUSE: FakeDevice = device("1-2", "046d:c077", "Mouse", "", [["03:01:02"]]);
export const STICK: FakeDevice = device("1-3", "0781:5581", "Ultra", "4C53", [["08:06:50"]]);
export const COMPOSITE: FakeDevice = device("1-4", "1234:5678", "Both", "77", [["03:01:01"], ["08:06:50"]]);
export const SERIAL: FakeDevice = device("1-5", "0403:6001", "UART", "A6", [["ff:ff:ff"]]);
export const HUB: FakeDevice = device("1-6", "05e3:0610", "Hub", "", [["09:00:00"]]);
export const FAR_KEYBOARD: FakeDevice = device("1-6.1", "04d9:1603", "Far keyboard", "", [["03:01:01"]]);
export const CAMERA: FakeDevice = device("1-7", "04a9:32d1", "Camera", "9", [["06:01:01"]]);

function device(
  port: string,
  id: string,
  name: string,
  serial: string,
  codes: FakeDevice["codes"],
): FakeDevice {
  return { port, id, name, serial, codes };
}

export function hashOf({ id, name, serial, codes }: FakeDevice): string {
  return createHash("sha256")
    .update(JSON.stringify([id, name, serial, codes]))
    .digest("base64");
}

/**
 * A kernel with one controller, usb1, that obeys its defaults. What hangs on a hub is found only while the hub is
 * authorised and its driver has it. Everything that was ever written is in `writes`.
 */
export class FakeUsb implements UsbGate {
  readonly plugged = new Map<string, Plugged>();
  defaults = { device: "1", interface: "1" };
  readonly writes: string[] = [];
  /** Ports whose writes fail, "list" for the listing, "usb1" for the defaults. */
  readonly fails = new Set<string>();
  /** Ports whose files udev has not given us yet. */
  readonly denies = new Set<string>();
  /** Ports whose writes are taken and do nothing. */
  readonly lies = new Set<string>();
  /** Plugged into a hub that is not let in: the kernel does not know of them. */
  private readonly unseen = new Map<string, FakeDevice>();
  private count = 1;

  plug(device: FakeDevice): void {
    const hub = this.hubOf(device.port);
    if (hub !== null && !this.carries(hub)) {
      this.unseen.set(device.port, device);
      return;
    }
    this.count += 1;
    const one: Plugged = {
      device,
      number: String(this.count),
      instance: String(1_000 + this.count),
      authorized: this.defaults.device === "1",
      live: new Map(),
    };
    this.plugged.set(device.port, one);
    if (one.authorized) this.configure(one);
  }

  unplug(port: string): void {
    for (const all of [this.plugged, this.unseen])
      for (const name of all.keys()) if (name === port || name.startsWith(`${port}.`)) all.delete(name);
  }

  /** Somebody else's `echo 1 > authorized`. */
  tamper(port: string, name: string | null = null): void {
    const one = this.plugged.get(port);
    if (!one) return;
    if (name === null) {
      one.authorized = true;
      this.configure(one);
    } else one.live.set(name, true);
    this.explore();
  }

  deauthorize(port: string): void {
    const one = this.plugged.get(port);
    if (one) this.close(one);
  }

  isAuthorized(port: string): boolean {
    return this.plugged.get(port)?.authorized ?? false;
  }

  /** The names of the interfaces that drivers may have. */
  open(port: string): readonly string[] {
    return [...(this.plugged.get(port)?.live ?? [])].flatMap(([name, on]) => (on ? [name] : []));
  }

  list(): readonly UsbLook[] {
    return this.glance().map((state) => {
      const one = this.plugged.get(state.port);
      return one ? this.lookAt(state, one.device) : rootHub(state);
    });
  }

  glance(): readonly UsbState[] {
    if (this.fails.has("list")) throw this.failure("listing");
    const devices = [...this.plugged.values()].toSorted(
      (a, b) => a.device.port.length - b.device.port.length,
    );
    return [
      {
        port: "usb1",
        number: "1",
        instance: "1",
        authorized: true,
        interfaces: [],
        defaults: { ...this.defaults },
      },
      ...devices.map((one) => ({
        port: one.device.port,
        number: one.number,
        instance: one.instance,
        authorized: one.authorized,
        interfaces: [...one.live].map(([name, authorized]) => ({
          name,
          authorized,
          driver: authorized ? (one.device.driver ?? "") : "",
        })),
        defaults: null,
      })),
    ];
  }

  setDefaults(port: string, to: "closed" | "open"): void {
    this.writes.push(`${port} ${to}`);
    if (this.fails.has(port)) throw this.failure(`closing ${port}`);
    const value = to === "open" ? "1" : "0";
    this.defaults = { device: value, interface: value };
  }

  set(look: UsbLook, order: UsbOrder): void {
    const wanted = order.interfaces === "all" ? "all" : [...order.interfaces].join(" ");
    this.writes.push(`${look.port} ${order.device} ${wanted}`.trim());
    const one = this.plugged.get(look.port);
    if (this.fails.has(look.port)) throw this.failure(`writing to ${look.port}`);
    if (this.denies.has(look.port)) {
      const cause = Object.assign(new Error("permission denied"), { code: "EACCES" });
      throw new BoundaryError("usb-failed", `writing to ${look.port}`, { cause });
    }
    if (one?.number !== look.number || one.instance !== look.instance) {
      if (order.device === "allow") throw this.failure(`${look.port} is another device`);
      return;
    }
    if (this.lies.has(look.port)) throw this.failure(`${look.port} reads otherwise`);
    if (order.device === "reject") this.unplug(look.port);
    else if (order.device === "block") this.close(one);
    else {
      if (!one.authorized) {
        one.authorized = true;
        this.configure(one);
      }
      for (const name of one.live.keys())
        one.live.set(name, order.interfaces === "all" || order.interfaces.has(name));
    }
    this.explore();
  }

  private hubOf(port: string): string | null {
    const dot = port.lastIndexOf(".");
    return dot === -1 ? null : port.slice(0, dot);
  }

  private carries(hub: string): boolean {
    const one = this.plugged.get(hub);
    return one?.authorized === true && [...one.live.values()].some(Boolean);
  }

  /** Finds what hangs on hubs that work now, and loses what hangs on those that do not. */
  private explore(): void {
    for (const { device } of this.plugged.values()) {
      const hub = this.hubOf(device.port);
      if (hub === null || this.carries(hub)) continue;
      this.plugged.delete(device.port);
      this.unseen.set(device.port, device);
    }
    for (const device of [...this.unseen.values()].toSorted((a, b) => a.port.length - b.port.length)) {
      if (!this.carries(this.hubOf(device.port) ?? "")) continue;
      this.unseen.delete(device.port);
      this.plug(device);
    }
  }

  private configure(one: Plugged): void {
    for (const { name } of describe(one.device))
      if (!one.live.has(name)) one.live.set(name, this.defaults.interface === "1");
  }

  private close(one: Plugged): void {
    one.authorized = false;
    one.live.clear();
    this.explore();
  }

  private lookAt(state: UsbState, given: FakeDevice): UsbLook {
    const { port, id, name, serial, codes, problem } = given;
    const interfaces = codes.flat();
    const hash = problem === undefined ? hashOf(given) : "";
    const facts = { port, id, name, serial, hash, parentHash: "", interfaces, connectType: "hotplug" };
    const described = problem === undefined ? describe(given) : [];
    return { ...state, facts, described, problem: problem ?? null, print: hash };
  }

  private failure(doing: string): BoundaryError {
    return new BoundaryError("usb-failed", doing, { cause: new Error("EIO") });
  }
}

function describe({ port, codes }: FakeDevice): readonly DescribedInterface[] {
  return codes.map((each, index) => ({ name: `${port}:1.${index}`, codes: each }));
}

function rootHub(state: UsbState): UsbLook {
  const { port } = state;
  return {
    ...state,
    facts: {
      port,
      id: "1d6b:0002",
      name: "xHCI",
      serial: "0000:00:14.0",
      hash: "roothub",
      parentHash: "",
      interfaces: ["09:00:00"],
      connectType: "",
    },
    described: [{ name: "1-0:1.0", codes: ["09:00:00"] }],
    problem: null,
    print: "",
  };
}
