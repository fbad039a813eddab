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
  /** Set to make `generation` fail, or say that it does not know. */
  generationIs: "counted" | "unknown" | "failing" = "counted";
  /** How often the tables were listed. */
  listed = 0;
  /** Set to make `list` fail. */
  listFails = false;
  readonly scripts: string[] = [];
  #table: string | null = null;
  #generation = 1;

  /** Our tables, one after the other; null: none. Tests change it to play somebody else. */
  get table(): string | null {
    return this.#table;
  }

  set table(table: string | null) {
    this.#table = table;
    this.#generation += 1;
  }

  run(script: string): void {
    this.scripts.push(script);
    if (this.behaviour === "lies") return;
    if (this.behaviour === "refuses") throw this.failure("loading rules");
    this.take(script);
    if (this.behaviour === "fails-after") throw this.failure("loading rules");
  }

  /** A transaction that changes nothing of ours. */
  elsewhere(): void {
    this.#generation += 1;
  }

  generation(): number | null {
    if (this.generationIs === "failing") throw this.failure("reading the generation");
    return this.generationIs === "counted" ? this.#generation : null;
  }

  list(): string {
    this.listed += 1;
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
    const notes = [...script.matchAll(/^add element inet boundary (would_\w+) (\{.*\})$/gm)];
    if (notes.length > 0) {
      for (const [, set, elements] of notes)
        this.table = (this.table ?? "").replace(`set ${set} {`, `set ${set} {\nelements = ${elements}`);
      return;
    }
    if (start <= 0) {
      // a heartbeat: as in the kernel, it fails where there is no such set
      if (!this.table?.includes("set alive {")) throw this.failure("renewing the dead-man");
      this.#generation += 1;
      return;
    }
    const table = script.slice(start);
    this.table = this.behaviour === "half" ? `${table.slice(0, table.lastIndexOf("chain "))}}` : table;
  }

  private failure(doing: string): BoundaryError {
    return new BoundaryError("nft-failed", doing, { cause: new Error("Operation not permitted") });
  }
}
