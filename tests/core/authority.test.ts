import { describe, expect, test } from "vitest";
import { decide, type Question, type View } from "../../daemon/core/authority.ts";
import { MODES, type Mode, rank } from "../../daemon/core/mode.ts";
import { leastModeOf, MEMORY_CLASSES } from "../../daemon/core/posture.ts";

const view = (over: Partial<View> & { mode?: Mode } = {}): View => {
  const { mode = "OPEN", ...rest } = over;
  return { wanted: mode, applied: mode, assurance: "enforced", trustedInterfaces: [], ...rest };
};
const ask = (
  name: Question["action"]["name"],
  properties: Question["resource"]["properties"] = {},
): Question => ({
  action: { name },
  resource: { properties },
});

/** DESIGN section 2, row by row: in which modes each question is allowed when the mode is enforced. */
const TABLE: readonly (readonly [string, Question, readonly Mode[]])[] = [
  ["PUBLIC", ask("recall", { class: "PUBLIC" }), ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"]],
  ["INTERNAL", ask("recall", { class: "INTERNAL" }), ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"]],
  ["CONFIDENTIAL", ask("recall", { class: "CONFIDENTIAL" }), ["RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"]],
  ["SECRET", ask("recall", { class: "SECRET" }), ["TRUSTED", "AIRGAP", "COLDROOM"]],
  ["TOP_SECRET", ask("recall", { class: "TOP_SECRET" }), ["AIRGAP", "COLDROOM"]],
  ["CROWN_JEWEL", ask("recall", { class: "CROWN_JEWEL" }), ["COLDROOM"]],
  [
    "a tool that reaches nothing",
    ask("tool.run", { reach: "none" }),
    ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"],
  ],
  ["a network tool", ask("tool.run", { reach: "network" }), ["OPEN", "RESTRICTED"]],
  ["a file-system tool", ask("tool.run", { reach: "file" }), ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP"]],
  ["an external model", ask("model.call", { location: "external" }), ["OPEN", "RESTRICTED"]],
  [
    "a local model",
    ask("model.call", { location: "local" }),
    ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"],
  ],
  ["network io", ask("io", { reach: "network" }), ["OPEN", "RESTRICTED"]],
  ["file io", ask("io", { reach: "file" }), ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP"]],
  ["USB storage", ask("io", { reach: "usb-storage" }), ["OPEN"]],
  ["a USB input device", ask("io", { reach: "usb-input" }), ["OPEN", "RESTRICTED", "TRUSTED"]],
  ["a recall without a class", ask("recall"), []],
  ["a tool without a reach", ask("tool.run"), []],
  ["a tool that claims a device", ask("tool.run", { reach: "usb-storage" }), []],
  ["a model without a location", ask("model.call"), []],
  ["io without a reach", ask("io"), []],
];

describe("decide", () => {
  test.each(TABLE)("%s is allowed in exactly its modes", (_name, question, allowed) => {
    expect(MODES.filter((mode) => decide(view({ mode }), question).decision)).toEqual(allowed);
  });

  test.each(TABLE)("%s: a denial names its rule and what would be allowed", (_name, question) => {
    for (const mode of MODES) {
      const verdict = decide(view({ mode }), question);
      expect(verdict.reason[0]).toMatch(/^[a-z]+\.[a-z.-]+$/);
      if (!verdict.decision) expect(verdict.wouldAllow).not.toBe("");
    }
  });

  test("a privilege is judged under the stricter of wanted and applied, whichever way the kernel lags", () => {
    const network = ask("tool.run", { reach: "network" });
    expect(decide(view({ wanted: "OPEN", applied: "AIRGAP" }), network).decision).toBe(false);
    expect(decide(view({ wanted: "AIRGAP", applied: "OPEN" }), network).decision).toBe(false);
  });

  test("a grant that needs isolation is judged under the looser of the two", () => {
    const secret = ask("recall", { class: "TOP_SECRET" });
    expect(decide(view({ wanted: "AIRGAP", applied: "OPEN" }), secret).decision).toBe(false);
    expect(decide(view({ wanted: "OPEN", applied: "AIRGAP" }), secret).decision).toBe(false);
  });

  test("with nothing confirmed everything is denied", () => {
    for (const mode of MODES) {
      for (const [, question] of TABLE) {
        expect(decide(view({ wanted: mode, applied: null, assurance: "failed" }), question).decision).toBe(
          false,
        );
      }
    }
  });

  test("observed suffices up to SECRET, failed for nothing that needs isolation", () => {
    for (const memoryClass of MEMORY_CLASSES) {
      const question = ask("recall", { class: memoryClass });
      const observed = decide(view({ mode: "COLDROOM", assurance: "observed" }), question).decision;
      const failed = decide(view({ mode: "COLDROOM", assurance: "failed" }), question).decision;
      expect(observed).toBe(rank(leastModeOf(memoryClass)) <= rank("TRUSTED"));
      expect(failed).toBe(memoryClass === "PUBLIC" || memoryClass === "INTERNAL");
    }
  });

  test("TRUSTED lets the network pass over a named trusted interface only", () => {
    const over = (name?: string) => ask("tool.run", { reach: "network", interface: name });
    const trusted = view({ mode: "TRUSTED", trustedInterfaces: ["wg0"] });
    expect([over("wg0"), over("eth0"), over()].map((q) => decide(trusted, q).decision)).toEqual([
      true,
      false,
      false,
    ]);
    expect(decide(view({ mode: "AIRGAP", trustedInterfaces: ["wg0"] }), over("wg0")).decision).toBe(false);
  });

  test("no stricter mode allows the network, files, models or devices where a looser one denies them", () => {
    for (const [name, question] of TABLE.filter(([, q]) => q.action.name !== "recall")) {
      const decisions = MODES.map((mode) => decide(view({ mode }), question).decision);
      expect(decisions, name).toEqual(decisions.toSorted((a, b) => Number(b) - Number(a)));
    }
  });
});
