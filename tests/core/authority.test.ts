import { describe, expect, test } from "vitest";
import type { AccessRequest, ActionName, Properties, Situation } from "../../daemon/core/access.ts";
import { ceilingOf } from "../../daemon/core/authority.ts";
import { MODES, type Mode, rank } from "../../daemon/core/mode.ts";
import { leastModeOf, MEMORY_CLASSES } from "../../daemon/core/posture.ts";

const view = (over: Partial<Situation> & { mode?: Mode } = {}): Situation => {
  const { mode = "OPEN", ...rest } = over;
  const usual = { assurance: "enforced", frozen: false, trustedInterfaces: [], wallMs: 0 } as const;
  return { wanted: mode, applied: mode, ...usual, ...rest };
};
const ask = (name: ActionName, properties: Properties = {}): AccessRequest => ({
  subject: { type: "User", id: "1000", properties: {} },
  action: { name, properties: {} },
  resource: { type: "thing", id: "one", properties },
  context: {},
});

const UP_TO_AIRGAP = ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP"] as const;

/** DESIGN section 2, row by row: in which modes each question is allowed when the mode is enforced. */
const TABLE: readonly (readonly [string, AccessRequest, readonly Mode[]])[] = [
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
  ["a command that reaches nothing", ask("command.run", { reach: "none" }), UP_TO_AIRGAP],
  ["a command over files", ask("command.run", { reach: "file" }), UP_TO_AIRGAP],
  ["a command over the network", ask("command.run", { reach: "network" }), ["OPEN", "RESTRICTED"]],
  ["a command that does not say what it reaches", ask("command.run"), []],
  ["a child", ask("process.spawn", { reach: "none" }), UP_TO_AIRGAP],
  ["a file to read", ask("file.read"), UP_TO_AIRGAP],
  ["a file to write", ask("file.write"), UP_TO_AIRGAP],
  ["a connection", ask("network.connect"), ["OPEN", "RESTRICTED"]],
  ["a message to the outside", ask("message.send", { reach: "network" }), ["OPEN", "RESTRICTED"]],
  [
    "a message inside",
    ask("message.send", { reach: "none" }),
    ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"],
  ],
  ["a message to somewhere", ask("message.send", { reach: ["none"] }), []],
  ["a secret", ask("secret.read"), UP_TO_AIRGAP],
  ["a stage", ask("stage.enter"), ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"]],
  ["a class that there is not", ask("recall", { class: "constructor" }), []],
  ["an action that there is not", ask("__proto__" as ActionName), []],
];

describe("the ceilings", () => {
  test.each(TABLE)("%s is allowed in exactly its modes", (_name, question, allowed) => {
    expect(MODES.filter((mode) => ceilingOf(view({ mode }), question).allow)).toEqual(allowed);
  });

  test.each(TABLE)("%s: a denial names its rule and what would be allowed", (_name, question) => {
    for (const mode of MODES) {
      const verdict = ceilingOf(view({ mode }), question);
      expect(verdict.rule).toMatch(/^[a-z]+\.[a-z.-]+$/);
      if (!verdict.allow) expect(verdict.instead).not.toBe("");
    }
  });

  test("a privilege is judged under the stricter of wanted and applied, whichever way the kernel lags", () => {
    const network = ask("tool.run", { reach: "network" });
    expect(ceilingOf(view({ wanted: "OPEN", applied: "AIRGAP" }), network).allow).toBe(false);
    expect(ceilingOf(view({ wanted: "AIRGAP", applied: "OPEN" }), network).allow).toBe(false);
  });

  test("a grant that needs isolation is judged under the looser of the two", () => {
    const secret = ask("recall", { class: "TOP_SECRET" });
    expect(ceilingOf(view({ wanted: "AIRGAP", applied: "OPEN" }), secret).allow).toBe(false);
    expect(ceilingOf(view({ wanted: "OPEN", applied: "AIRGAP" }), secret).allow).toBe(false);
  });

  test("with nothing confirmed everything is denied", () => {
    for (const mode of MODES) {
      for (const [, question] of TABLE) {
        expect(ceilingOf(view({ wanted: mode, applied: null, assurance: "failed" }), question).allow).toBe(
          false,
        );
      }
    }
  });

  test("observed suffices up to SECRET, failed for nothing that needs isolation", () => {
    for (const memoryClass of MEMORY_CLASSES) {
      const question = ask("recall", { class: memoryClass });
      const observed = ceilingOf(view({ mode: "COLDROOM", assurance: "observed" }), question).allow;
      const failed = ceilingOf(view({ mode: "COLDROOM", assurance: "failed" }), question).allow;
      expect(observed).toBe(rank(leastModeOf(memoryClass)) <= rank("TRUSTED"));
      expect(failed).toBe(memoryClass === "PUBLIC" || memoryClass === "INTERNAL");
    }
  });

  test("TRUSTED lets the network pass over a named trusted interface only", () => {
    const over = (name?: string) => ask("tool.run", { reach: "network", ...(name && { interface: name }) });
    const trusted = view({ mode: "TRUSTED", trustedInterfaces: ["wg0"] });
    expect([over("wg0"), over("eth0"), over()].map((q) => ceilingOf(trusted, q).allow)).toEqual([
      true,
      false,
      false,
    ]);
    expect(ceilingOf(view({ mode: "AIRGAP", trustedInterfaces: ["wg0"] }), over("wg0")).allow).toBe(false);
  });

  test("no stricter mode allows the network, files, models or devices where a looser one denies them", () => {
    for (const [name, question] of TABLE.filter(([, q]) => q.action.name !== "recall")) {
      const decisions = MODES.map((mode) => ceilingOf(view({ mode }), question).allow);
      expect(decisions, name).toEqual(decisions.toSorted((a, b) => Number(b) - Number(a)));
    }
  });
});
