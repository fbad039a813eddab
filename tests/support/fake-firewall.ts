import { BoundaryError } from "../../daemon/core/errors.ts";
import type { Firewall } from "../../daemon/ports.ts";

/**
 * What the fake does with a script. "works": as the kernel. "refuses": fails and nothing took effect. "fails-after": it
 * took effect, and then failed. "half": succeeds, but the last chain is not there. "lies": succeeds and does nothing.
 */
export type Behaviour = "works" | "refuses" | "fails-after" | "half" | "lies";

/** Keeps our tables as text, and can misbehave. Elements of `alive` are kept, but time does not pass in it. */
export class FakeFirewall implements Firewall {
  readonly via = "nft";
  behaviour: Behaviour = "works";
  /** Our tables, one after the other; null: none. Tests change it to play somebody else. */
  table: string | null = null;
  /** Set to make `list` fail. */
  listFails = false;
  readonly scripts: string[] = [];

  run(script: string): void {
    this.scripts.push(script);
    if (this.behaviour === "lies") return;
    if (this.behaviour === "refuses") throw this.failure("loading rules");
    this.take(script);
    if (this.behaviour === "fails-after") throw this.failure("loading rules");
  }

  list(): string {
    if (this.listFails) throw this.failure("listing our tables");
    return this.table ?? "";
  }

  get mode(): string | null {
    return /boundary-daemon mode ([A-Z]+)/.exec(this.table ?? "")?.[1] ?? null;
  }

  private take(script: string): void {
    const start = script.indexOf("\ntable inet boundary {") + 1;
    if (start <= 0 && script.includes("delete table inet boundary")) {
      this.table = null; // released
      return;
    }
    if (start <= 0) {
      // a heartbeat: as in the kernel, it fails where there is no such set
      if (!this.table?.includes("set alive {")) throw this.failure("renewing the dead-man");
      return;
    }
    const table = script.slice(start);
    this.table = this.behaviour === "half" ? `${table.slice(0, table.lastIndexOf("chain "))}}` : table;
  }

  private failure(doing: string): BoundaryError {
    return new BoundaryError("nft-failed", doing, { cause: new Error("Operation not permitted") });
  }
}
