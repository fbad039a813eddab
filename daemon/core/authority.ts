import { ACTIONS, type AccessRequest, type Properties, type Situation } from "./access.ts";
import { looserOf, MODES, type Mode, rank, stricterOf } from "./mode.ts";
import { leastModeOf, MEMORY_CLASSES, type MemoryClass, type Posture, posture } from "./posture.ts";

/** What the mode says of a question. `rule` is stable: docs/POLICY.md lists them. */
export type Ceiling = {
  readonly allow: boolean;
  readonly rule: string;
  /** On a denial: what would be allowed instead, in words. */
  readonly instead: string;
  /** Whether a person could change it, by changing the mode. */
  readonly askPerson: boolean;
};

/** Up to this class "observed" isolation suffices; above it the kernel has to hold the mode (DESIGN, principle 3). */
const OBSERVED_SUFFICES_UP_TO: MemoryClass = "SECRET";
/** These need no isolation: any mode but LOCKDOWN grants them, whatever the assurance. */
const NEEDS_NO_ISOLATION: readonly MemoryClass[] = ["PUBLIC", "INTERNAL"];

/** A privilege is judged under the stricter of wanted and applied; what is not confirmed counts as LOCKDOWN. */
export function privilegeMode({ wanted, applied }: Pick<Situation, "wanted" | "applied">): Mode {
  return stricterOf(wanted, applied ?? "LOCKDOWN");
}

/** A grant that needs isolation is judged under the looser of the two; what is not confirmed counts as OPEN. */
export function isolationMode({ wanted, applied }: Pick<Situation, "wanted" | "applied">): Mode {
  return looserOf(wanted, applied ?? "OPEN");
}

/**
 * The mode's ceilings (DESIGN section 2), before any policy: no policy can loosen them. What the table does not name is
 * denied.
 */
export function ceilingOf(situation: Situation, { action, resource }: AccessRequest): Ceiling {
  const privilege = privilegeMode(situation);
  if (privilege === "LOCKDOWN")
    return deny("mode.lockdown", "nothing, until a person ends LOCKDOWN by ceremony", true);
  const name = ACTIONS.find((each) => each === action.name);
  const properties = resource.properties;
  switch (name) {
    case "recall": {
      const wanted = MEMORY_CLASSES.find((each) => each === property(properties, "class"));
      return wanted
        ? recall(situation, wanted)
        : deny("request.class-missing", `name resource.properties.class: ${MEMORY_CLASSES.join(", ")}`);
    }
    case "tool.run":
      return tool(situation, privilege, properties);
    case "model.call":
      return model(situation, privilege, properties);
    case "message.send":
      return message(situation, privilege, properties);
    case "network.connect":
      return overNetwork(
        situation,
        posture(privilege).networkTools,
        privilege,
        properties,
        "mode.network-connect",
      );
    case "file.read":
    case "file.write":
      return files(privilege, "mode.file-io", "file input and output");
    case "command.run":
    case "process.spawn":
      return exec(situation, privilege, properties);
    case "secret.read":
      return posture(privilege).secrets === "by-policy"
        ? allow("mode.secrets")
        : deny("mode.secrets", upTo("secrets", "AIRGAP"), true);
    case "stage.enter":
      return allow("mode.stages");
    case "io":
      return io(situation, privilege, properties);
    case undefined:
      return deny("request.action-unknown", `one of ${ACTIONS.join(", ")}`);
  }
}

function property(properties: Properties, name: string): unknown {
  return Object.hasOwn(properties, name) ? properties[name] : undefined;
}

function recall(situation: Situation, wantedClass: MemoryClass): Ceiling {
  const isolation = isolationMode(situation);
  const least = leastModeOf(wantedClass);
  const needsIsolation = !NEEDS_NO_ISOLATION.includes(wantedClass);
  if (rank(isolation) < rank(least)) {
    return deny(
      "mode.memory-ceiling",
      `${wantedClass} takes ${least} or stricter; ${isolation} grants up to ${posture(isolation).memory ?? "nothing"}`,
      true,
    );
  }
  if (needsIsolation && situation.assurance === "failed")
    return deny("assurance.failed", "nothing that needs isolation, until the kernel has confirmed the mode");
  if (situation.assurance === "observed" && rank(least) > rank(leastModeOf(OBSERVED_SUFFICES_UP_TO)))
    return deny(
      "assurance.observed",
      `${wantedClass} takes an enforced mode; observed suffices up to ${OBSERVED_SUFFICES_UP_TO}`,
    );
  return allow("mode.memory-ceiling");
}

function tool(situation: Situation, privilege: Mode, properties: Properties): Ceiling {
  switch (property(properties, "reach")) {
    case "none":
      return allow("mode.tools");
    case "file":
      return files(privilege, "mode.file-tools", "file-system tools");
    case "network":
      return overNetwork(
        situation,
        posture(privilege).networkTools,
        privilege,
        properties,
        "mode.network-tools",
      );
    case undefined:
      return deny("request.reach-missing", "name resource.properties.reach: none, file or network");
    default:
      return deny(
        "mode.tools-unknown",
        "tools reach none, file or network; ask for io with usb-storage or usb-input",
      );
  }
}

/** A command, and a child of one: what reaches the network at all is for modes in which guarded commands may. */
function exec(situation: Situation, privilege: Mode, properties: Properties): Ceiling {
  const grade = posture(privilege).exec;
  const reach = property(properties, "reach");
  if (grade === "no" || grade === "running-ended") return deny("mode.exec", upTo("commands", "AIRGAP"), true);
  if (reach === "none" || reach === "file") return allow("mode.exec");
  if (reach !== "network")
    return deny("request.reach-missing", "name resource.properties.reach: none, file or network");
  return grade === "by-policy"
    ? overNetwork(situation, posture(privilege).networkTools, privilege, properties, "mode.exec-network")
    : deny("mode.exec-network", upTo("commands that reach the network", "RESTRICTED"), true);
}

function files(privilege: Mode, id: string, what: string): Ceiling {
  return posture(privilege).fileTools === "yes" ? allow(id) : deny(id, upTo(what, "AIRGAP"), true);
}

function model(situation: Situation, privilege: Mode, properties: Properties): Ceiling {
  const location = property(properties, "location");
  if (location === "local") return allow("mode.models-local");
  if (location !== "external")
    return deny("request.location-missing", "name resource.properties.location: local or external");
  const grade = posture(privilege).externalModels;
  return overNetwork(situation, grade, privilege, properties, "mode.external-models");
}

/** What stays on the host, and what leaves it. */
function message(situation: Situation, privilege: Mode, properties: Properties): Ceiling {
  const reach = property(properties, "reach");
  if (reach === "none") return allow("mode.messages-local");
  if (reach !== "network")
    return deny("request.reach-missing", "name resource.properties.reach: none or network");
  const grade = posture(privilege).networkTools;
  return overNetwork(situation, grade, privilege, properties, "mode.external-messages");
}

function io(situation: Situation, privilege: Mode, properties: Properties): Ceiling {
  switch (property(properties, "reach")) {
    case "none":
      return allow("mode.io");
    case "file":
      return files(privilege, "mode.file-io", "file input and output");
    case "network":
      return overNetwork(
        situation,
        posture(privilege).networkTools,
        privilege,
        properties,
        "mode.network-io",
      );
    case "usb-storage":
      return privilege === "OPEN"
        ? allow("mode.usb-storage")
        : deny("mode.usb-storage", upTo("USB storage", "OPEN"), true);
    case "usb-input":
      return rank(privilege) <= rank("TRUSTED")
        ? allow("mode.usb-input")
        : deny("mode.usb-input", upTo("new input devices", "TRUSTED"), true);
    default:
      return deny(
        "request.reach-missing",
        "name resource.properties.reach: none, file, network, usb-storage or usb-input",
      );
  }
}

/** Where a mode allows the network over trusted interfaces only, the interface has to be named and be one of them. */
function overNetwork(
  { trustedInterfaces }: Situation,
  grade: Posture["networkTools"],
  privilege: Mode,
  properties: Properties,
  id: string,
): Ceiling {
  if (grade === "yes") return allow(id);
  if (grade === "no") return deny(id, `it in ${looserModes(privilege)}`, true);
  const name = property(properties, "interface");
  if (typeof name === "string" && trustedInterfaces.includes(name)) return allow(`${id}.trusted-interface`);
  const names = trustedInterfaces.join(", ");
  return deny(
    `${id}.trusted-interface`,
    names === "" ? "it over a trusted interface; none is configured" : `it over ${names}`,
  );
}

function looserModes(privilege: Mode): string {
  return MODES.slice(0, Math.min(rank(privilege), rank("AIRGAP"))).join(", ");
}

function upTo(what: string, mode: Mode): string {
  return `${what} up to ${mode}`;
}

function allow(id: string): Ceiling {
  return { allow: true, rule: id, instead: "", askPerson: false };
}

function deny(id: string, instead: string, askPerson = false): Ceiling {
  return { allow: false, rule: id, instead, askPerson };
}
