import type { Assurance } from "./assurance.ts";
import { looserOf, MODES, type Mode, rank, stricterOf } from "./mode.ts";
import { leastModeOf, type MemoryClass, type Posture, posture } from "./posture.ts";

/** The state a decision is taken on: that of this instant. */
export type View = {
  readonly wanted: Mode;
  readonly applied: Mode | null;
  readonly assurance: Assurance;
  readonly trustedInterfaces: readonly string[];
};

/** What is asked. The subject is the peer and does not matter to a mode's ceilings. */
export type Question = {
  readonly action: { readonly name: "recall" | "tool.run" | "model.call" | "io" };
  readonly resource: { readonly properties: Properties };
};

type Properties = {
  readonly class?: MemoryClass | undefined;
  readonly reach?: "none" | "file" | "network" | "usb-storage" | "usb-input" | undefined;
  readonly location?: "local" | "external" | undefined;
  readonly interface?: string | undefined;
};

export type Verdict = {
  readonly decision: boolean;
  readonly reason: readonly string[];
  readonly mode: Mode;
  readonly assurance: Assurance;
  readonly wouldAllow: string;
  readonly askPerson: boolean;
};

/** Up to this class "observed" isolation suffices; above it the kernel has to hold the mode (DESIGN, principle 3). */
const OBSERVED_SUFFICES_UP_TO: MemoryClass = "SECRET";
/** These need no isolation: any mode but LOCKDOWN grants them, whatever the assurance. */
const NEEDS_NO_ISOLATION: readonly MemoryClass[] = ["PUBLIC", "INTERNAL"];

type Ruling = {
  readonly allow: boolean;
  readonly rule: string;
  readonly instead: string;
  readonly askPerson: boolean;
};

/**
 * The mode's ceilings (DESIGN section 2), before any policy: no policy can loosen them. A privilege is judged under
 * the stricter of wanted and applied, a grant that needs isolation under the looser. What is not confirmed counts as
 * LOCKDOWN for the one and as OPEN for the other. What the table does not name is denied.
 */
export function decide(view: View, request: Question): Verdict {
  const privilege = stricterOf(view.wanted, view.applied ?? "LOCKDOWN");
  const ruling = rule(view, privilege, request);
  return {
    decision: ruling.allow,
    reason: [ruling.rule],
    mode: privilege,
    assurance: view.assurance,
    wouldAllow: ruling.instead,
    askPerson: ruling.askPerson,
  };
}

function rule(view: View, privilege: Mode, request: Question): Ruling {
  if (privilege === "LOCKDOWN")
    return deny("mode.lockdown", "nothing, until a person ends LOCKDOWN by ceremony", true);
  const properties = request.resource.properties;
  switch (request.action.name) {
    case "recall":
      return properties.class
        ? recall(view, properties.class)
        : deny("request.class-missing", "name resource.properties.class");
    case "tool.run":
      return properties.reach
        ? tool(view, privilege, properties)
        : deny("request.reach-missing", "name resource.properties.reach");
    case "model.call":
      return model(view, privilege, properties);
    case "io":
      return properties.reach
        ? io(view, privilege, properties)
        : deny("request.reach-missing", "name resource.properties.reach");
  }
}

function recall(view: View, wantedClass: MemoryClass): Ruling {
  const isolation = looserOf(view.wanted, view.applied ?? "OPEN");
  const least = leastModeOf(wantedClass);
  const needsIsolation = !NEEDS_NO_ISOLATION.includes(wantedClass);
  if (rank(isolation) < rank(least)) {
    return deny(
      "mode.memory-ceiling",
      `${wantedClass} takes ${least} or stricter; ${isolation} grants up to ${posture(isolation).memory ?? "nothing"}`,
      true,
    );
  }
  if (needsIsolation && view.assurance === "failed") {
    return deny("assurance.failed", "nothing that needs isolation, until the kernel has confirmed the mode");
  }
  if (view.assurance === "observed" && rank(least) > rank(leastModeOf(OBSERVED_SUFFICES_UP_TO))) {
    return deny(
      "assurance.observed",
      `${wantedClass} takes an enforced mode; observed suffices up to ${OBSERVED_SUFFICES_UP_TO}`,
    );
  }
  return allow("mode.memory-ceiling");
}

function tool(view: View, privilege: Mode, properties: Properties): Ruling {
  switch (properties.reach) {
    case "none":
      return allow("mode.tools");
    case "file":
      return posture(privilege).fileTools === "yes"
        ? allow("mode.file-tools")
        : deny("mode.file-tools", upTo("file-system tools", "AIRGAP"));
    case "network":
      return overNetwork(view, privilege, posture(privilege).networkTools, properties, "mode.network-tools");
    case "usb-storage":
    case "usb-input":
    case undefined:
      return deny(
        "mode.tools-unknown",
        "tools reach none, file or network; ask for io with usb-storage or usb-input",
      );
  }
}

function model(view: View, privilege: Mode, properties: Properties): Ruling {
  if (properties.location === "local") return allow("mode.models-local");
  if (properties.location !== "external")
    return deny("request.location-missing", "name resource.properties.location");
  return overNetwork(view, privilege, posture(privilege).externalModels, properties, "mode.external-models");
}

function io(view: View, privilege: Mode, properties: Properties): Ruling {
  switch (properties.reach) {
    case "none":
      return allow("mode.io");
    case "file":
      return posture(privilege).fileTools === "yes"
        ? allow("mode.file-io")
        : deny("mode.file-io", upTo("file input and output", "AIRGAP"));
    case "network":
      return overNetwork(view, privilege, posture(privilege).networkTools, properties, "mode.network-io");
    case "usb-storage":
      return privilege === "OPEN"
        ? allow("mode.usb-storage")
        : deny("mode.usb-storage", upTo("USB storage", "OPEN"), true);
    case "usb-input":
      return rank(privilege) <= rank("TRUSTED")
        ? allow("mode.usb-input")
        : deny("mode.usb-input", upTo("new input devices", "TRUSTED"), true);
    case undefined:
      return deny("request.reach-missing", "name resource.properties.reach");
  }
}

/** Where a mode allows the network over trusted interfaces only, the interface has to be named and be one of them. */
function overNetwork(
  view: View,
  privilege: Mode,
  grade: Posture["networkTools"],
  properties: Properties,
  id: string,
): Ruling {
  if (grade === "yes") return allow(id);
  if (grade === "no") return deny(id, `it in ${looserModes(privilege)}`, true);
  const { interface: name } = properties;
  if (name !== undefined && view.trustedInterfaces.includes(name)) return allow(`${id}.trusted-interface`);
  const names = view.trustedInterfaces.join(", ");
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

function allow(id: string): Ruling {
  return { allow: true, rule: id, instead: "", askPerson: false };
}

function deny(id: string, instead: string, askPerson = false): Ruling {
  return { allow: false, rule: id, instead, askPerson };
}
