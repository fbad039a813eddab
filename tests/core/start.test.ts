import { describe, expect, test } from "vitest";
import { NO_HOLD_MEMORY } from "../../daemon/core/held.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { type History, holdIn, startIn } from "../../daemon/core/start.ts";

const clean = (wanted: (typeof MODES)[number]): History => ({
  kind: "clean",
  wanted,
  epoch: 7,
  frozen: "",
  held: NO_HOLD_MEMORY,
});

describe("startIn", () => {
  test.each([
    ["a first start takes the configured mode", { kind: "none" }, null, "RESTRICTED", "initial"],
    ["a first start takes the mode asked for", { kind: "none" }, "OPEN", "OPEN", "initial"],
    ["a clean stop is resumed", clean("AIRGAP"), null, "AIRGAP", "resumed"],
    ["the command line may tighten a resumed mode", clean("OPEN"), "AIRGAP", "AIRGAP", "resumed"],
    ["the command line never loosens a resumed mode", clean("AIRGAP"), "OPEN", "AIRGAP", "resumed"],
    ["LOCKDOWN outlives a clean stop", clean("LOCKDOWN"), "OPEN", "LOCKDOWN", "resumed"],
    [
      "a crash is LOCKDOWN",
      { kind: "crash", wanted: "OPEN", epoch: 3, frozen: "", held: NO_HOLD_MEMORY, lastAt: "x" },
      "OPEN",
      "LOCKDOWN",
      "crash",
    ],
    ["a log that does not verify is LOCKDOWN", { kind: "broken", why: "x" }, "OPEN", "LOCKDOWN", "tampered"],
    [
      "a log that cannot be read is LOCKDOWN",
      { kind: "unreadable", why: "x" },
      "OPEN",
      "LOCKDOWN",
      "unreadable",
    ],
  ] as const)("%s", (_name, history, asked, mode, cause) => {
    const start = startIn(history, asked, "RESTRICTED");
    expect({ mode: start.mode, cause: start.cause.kind }).toEqual({ mode, cause });
  });

  test("nothing but a first start or a clean stop is ever looser than LOCKDOWN", () => {
    const histories: History[] = [
      { kind: "crash", wanted: "OPEN", epoch: 1, frozen: "", held: NO_HOLD_MEMORY, lastAt: "" },
      { kind: "broken", why: "" },
      { kind: "unreadable", why: "" },
    ];
    for (const history of histories) {
      for (const asked of [null, ...MODES]) expect(startIn(history, asked, "OPEN").mode).toBe("LOCKDOWN");
    }
  });

  test("a freeze outlives a restart", () => {
    expect(
      startIn(
        { kind: "clean", wanted: "OPEN", epoch: 1, frozen: "jumped", held: NO_HOLD_MEMORY },
        null,
        "OPEN",
      ).frozen,
    ).toBe("jumped");
    expect(
      startIn(
        { kind: "crash", wanted: "OPEN", epoch: 1, frozen: "jumped", held: NO_HOLD_MEMORY, lastAt: "" },
        null,
        "OPEN",
      ).frozen,
    ).toBe("jumped");
  });

  test("a freeze and the epoch outlive a missing or unreadable head, whose log is sound", () => {
    const history: History = { kind: "unreadable", why: "x", epoch: 9, frozen: "jumped" };
    expect(startIn(history, "OPEN", "OPEN")).toMatchObject({ mode: "LOCKDOWN", epoch: 10, frozen: "jumped" });
    expect(startIn({ kind: "unreadable", why: "x" }, null, "OPEN")).toMatchObject({ epoch: 1, frozen: "" });
  });
});

describe("holdIn", () => {
  const asked = { firstStart: "enforce", parameter: false, boot: "b2" } as const;
  const parameter = { ...asked, parameter: true };
  const ended = (held: Partial<typeof NO_HOLD_MEMORY>, kind: "clean" | "crash" = "clean"): History => ({
    kind,
    wanted: "OPEN",
    epoch: 1,
    frozen: "",
    lastAt: "",
    held: { ...NO_HOLD_MEMORY, ...held },
  });

  test.each([
    ["a first start enforces", { kind: "none" }, asked, "enforcing", null],
    [
      "a first start in shadow",
      { kind: "none" },
      { ...asked, firstStart: "shadow" },
      "shadow",
      "first-start",
    ],
    ["a first start with the parameter", { kind: "none" }, parameter, "released", "boot-parameter"],
    ["the log decides later", ended({}), { ...asked, firstStart: "shadow" }, "enforcing", null],
    ["a stop changes nothing", ended({ hold: "shadow" }), asked, "shadow", null],
    ["a crash opens nothing", ended({}, "crash"), asked, "enforcing", null],
    ["a crash closes nothing", ended({ hold: "released" }, "crash"), asked, "released", null],
    ["the parameter of a new boot", ended({ parameterBoot: "b1" }), parameter, "released", "boot-parameter"],
    ["the same boot", ended({ parameterBoot: "b2", releasedBoot: "b2" }), parameter, "released", null],
    [
      "the same boot after a crash",
      ended({ parameterBoot: "b2", releasedBoot: "b2" }, "crash"),
      parameter,
      "released",
      null,
    ],
    ["the same boot, ended by a person", ended({ parameterBoot: "b2" }), parameter, "enforcing", null],
    [
      "the next boot without it",
      ended({ parameterBoot: "b1", releasedBoot: "b1" }),
      asked,
      "enforcing",
      null,
    ],
    ["a log that was tampered with", { kind: "broken", why: "x" }, parameter, "enforcing", null],
    ["a log that cannot be read", { kind: "unreadable", why: "x" }, parameter, "enforcing", null],
  ] as const)("%s", (_name, history, facts, hold, by) => {
    const start = holdIn(history, facts);
    expect({ hold: start.held.hold, by: start.change?.by ?? null }).toEqual({ hold, by });
  });
});
