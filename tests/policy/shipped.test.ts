import { beforeAll, describe, expect, test } from "vitest";
import { ACTIONS, type ActionName, type Json } from "../../daemon/core/access.ts";
import { ceilingOf } from "../../daemon/core/authority.ts";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { MEMORY_CLASSES } from "../../daemon/core/posture.ts";
import { answerRequest } from "../../daemon/policy/answer.ts";
import type { AskedSituation, Principal } from "../../daemon/policy/entities.ts";
import type { Registry } from "../../daemon/policy/registry.ts";
import { unproven } from "../../daemon/policy/run-cases.ts";
import type { Loaded } from "../../daemon/policy-load.ts";
import { loadGood, question, registry, shippedFiles, situation, USER } from "../support/policies.ts";

let shipped: Extract<Loaded, { ok: true }>;
let nothingKnown: Registry;
beforeAll(async () => {
  shipped = await loadGood(shippedFiles());
  nothingKnown = registry(shipped.set.shapes);
});

const AGENT: Principal = { type: "Agent", id: "coder", roles: [] };
const SERVICE: Principal = { type: "Service", id: "s", roles: [] };

const TYPES = { recall: "memory", "tool.run": "tool", "model.call": "model", io: "io" } as const;

type Question = {
  readonly action: { readonly name: keyof typeof TYPES & ActionName };
  readonly resource: { readonly properties: Readonly<Record<string, Json | undefined>> };
};

/** Everything that the ceilings look at. */
function* asked(): Generator<Question> {
  for (const one of [undefined, ...MEMORY_CLASSES])
    yield { action: { name: "recall" }, resource: { properties: { class: one } } };
  for (const where of [undefined, "wg0", "eth0"]) {
    for (const reach of [undefined, "none", "file", "network", "usb-storage", "usb-input"] as const)
      for (const name of ["tool.run", "io"] as const)
        yield { action: { name }, resource: { properties: { reach, interface: where } } };
    for (const location of [undefined, "local", "external"] as const)
      yield { action: { name: "model.call" }, resource: { properties: { location, interface: where } } };
  }
}

function* situations(): Generator<AskedSituation> {
  for (const wanted of MODES)
    for (const applied of [null, ...MODES])
      for (const assurance of ["enforced", "observed", "failed"] as const)
        for (const trustedInterfaces of [[], ["wg0"]])
          yield situation({ wanted, applied, assurance, trustedInterfaces });
}

function requestOf({ action, resource }: Question): ReturnType<typeof question> {
  const properties = Object.fromEntries(
    Object.entries(resource.properties).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]],
    ),
  );
  return question(action.name, [TYPES[action.name], "x"], properties);
}

function byPolicy(principal: Principal, what: Question, now: AskedSituation): string {
  const { answer } = answerRequest(shipped.set, nothingKnown, requestOf(what), principal, now);
  // expect itself would take most of the time
  if (answer.code !== "allowed" && answer.code !== "policy-denied") throw new Error(answer.code);
  return answer.decision;
}

describe("the shipped policies", () => {
  test("every one of them is proven by a case", () => {
    expect(unproven(shipped.set, shipped.runs)).toEqual([]);
    expect(shipped.runs.length).toBeGreaterThan(shipped.set.notes.size);
  });

  test("every one says what would be allowed", () => {
    const silent = [...shipped.set.notes].filter(([, { advice }]) => advice === "").map(([id]) => id);
    expect(silent).toEqual([]);
  });

  test("for users and services, policy and ceilings say the same in every state: the table", () => {
    let allowed = 0;
    let all = 0;
    for (const now of situations())
      for (const what of asked()) {
        const above = ceilingOf(now, requestOf(what)).allow ? "allow" : "deny";
        for (const who of [USER, SERVICE]) {
          const said = byPolicy(who, what, now);
          if (said !== above) expect({ now, what, who, said }).toEqual({ now, what, who, said: above });
        }
        all++;
        if (above === "allow") allowed++;
      }
    expect([all > 10_000, allowed > 1_000, allowed < all]).toEqual([true, true, true]);
  });

  test("for an operator they say the same of files, the network, messages and commands, and more only of secrets and stages", () => {
    const known = registry(shipped.set.shapes, {
      users: [{ id: "1000", groups: [], workspaces: ["alpha"] }],
      resources: [{ type: "secret", id: "x", groups: [], properties: { workspace: "alpha" } }],
    });
    const reaches = [undefined, "none", "file", "network"].flatMap((reach) =>
      [undefined, "wg0"].map((where) => ({
        ...(reach === undefined ? {} : { reach }),
        ...(where === undefined ? {} : { interface: where }),
      })),
    );
    const commands = reaches.filter((each) => !("interface" in each));
    const others = [
      ...(["file.read", "file.write"] as const).map((name) => question(name, ["file", "/srv/x"])),
      ...[{}, { interface: "wg0" }].map((each) => question("network.connect", ["host", "x"], each)),
      ...reaches.map((each) => question("message.send", ["channel", "x"], each)),
      ...(["command.run", "process.spawn"] as const).flatMap((name) =>
        commands.map((each) => question(name, ["command", "x"], each)),
      ),
      question("secret.read", ["secret", "x"]),
      question("stage.enter", ["stage", "x"]),
    ];
    const who = { ...USER, roles: ["operator"] };
    let narrower = 0;
    for (const now of situations())
      for (const request of others) {
        const above = ceilingOf(now, request).allow ? "allow" : "deny";
        const { answer } = answerRequest(shipped.set, known, request, who, now);
        if (answer.decision === above) continue;
        narrower++;
        const may =
          ["secret.read", "stage.enter"].includes(request.action.name) && answer.decision === "deny";
        if (!may) expect({ now, request, said: answer.decision }).toEqual({ now, request, said: above });
      }
    expect(narrower).toBeGreaterThan(0);
  });

  test("for an agent they are never looser than the ceilings, with every lease and approval", () => {
    const leases = ["network", "usb", "exec", "messages", "secrets", "stages", "system-files"];
    let forbidden = 0;
    for (const now of situations())
      for (const what of asked()) {
        if (ceilingOf(now, requestOf(what)).allow) continue;
        if (byPolicy(AGENT, what, { ...now, leases, approved: true }) !== "deny")
          expect({ now, what }).toBe("denied");
        forbidden++;
      }
    expect(forbidden).toBeGreaterThan(1_000);
  });

  test.each(["tool.run", "io"] as const)("%s: an agent's network needs a person, and he suffices", (name) => {
    const what = { action: { name }, resource: { properties: { reach: "network" } } } as const;
    expect(byPolicy(AGENT, what, situation())).toBe("deny");
    expect(byPolicy(AGENT, what, situation({ approved: true }))).toBe("allow");
    expect(byPolicy(AGENT, what, situation({ leases: ["network"] }))).toBe("allow");
  });

  test("secret material leaves by no way, in no mode, for nobody", () => {
    const outward = [
      question("tool.run", ["tool", "x"], { reach: "network", interface: "wg0" }, { taint: ["secret"] }),
      question(
        "model.call",
        ["model", "x"],
        { location: "external", interface: "wg0" },
        { taint: ["secret"] },
      ),
      question("io", ["io", "x"], { reach: "network", interface: "wg0" }, { taint: ["secret"] }),
      question("io", ["io", "x"], { reach: "usb-storage" }, { taint: ["secret"] }),
      question("network.connect", ["host", "x.example"], { interface: "wg0" }, { taint: ["secret"] }),
      question(
        "message.send",
        ["channel", "x"],
        { reach: "network", interface: "wg0" },
        { taint: ["secret"] },
      ),
      question("command.run", ["command", "x"], { reach: "network" }, { taint: ["secret"] }),
      question("process.spawn", ["command", "x"], { reach: "network" }, { taint: ["secret"] }),
    ];
    for (const wanted of MODES)
      for (const who of [USER, SERVICE, AGENT])
        for (const request of outward) {
          const now = situation({
            wanted,
            applied: wanted,
            approved: true,
            leases: ["network"],
            trustedInterfaces: ["wg0"],
          });
          const roles = ["admin"];
          const { answer } = answerRequest(shipped.set, nothingKnown, request, { ...who, roles }, now);
          expect([answer.decision, answer.needsPerson]).toEqual(["deny", false]);
        }
  });

  test("LOCKDOWN allows nothing at all", () => {
    const lockdown: Mode = "LOCKDOWN";
    for (const action of ACTIONS)
      for (const type of shipped.set.shapes.actions.get(action)?.resources ?? []) {
        const id = { File: "/a" }[type] ?? "x";
        const wire = type.charAt(0).toLowerCase() + type.slice(1);
        for (const state of [{ wanted: lockdown }, { applied: lockdown }, { applied: null }]) {
          const now = situation({ ...state, approved: true, token: true });
          const request = question(action, [wire, id]);
          const { answer } = answerRequest(
            shipped.set,
            nothingKnown,
            request,
            { ...USER, roles: ["admin"] },
            now,
          );
          expect([action, answer.decision, answer.reasons]).toEqual([
            action,
            "deny",
            ["mode.nothing-in-lockdown"],
          ]);
        }
      }
  });
});
