import { join } from "node:path";
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import { readPolicyDirectory } from "../../daemon/adapters/policy-directory.ts";
import type { AccessRequest, Json } from "../../daemon/core/access.ts";
import type { AskedSituation, Principal } from "../../daemon/policy/entities.ts";
import { isPolicyFile, type RawFile, renderFileProblem } from "../../daemon/policy/policy-files.ts";
import type { RegistryFile } from "../../daemon/policy/read-policies.ts";
import {
  createRegistry,
  EMPTY_REGISTRY_TEXT,
  type Registry,
  type RegistryText,
} from "../../daemon/policy/registry.ts";
import type { Shapes } from "../../daemon/policy/schema-shapes.ts";
import { type Loaded, loadPolicies } from "../../daemon/policy-load.ts";
import type { CedarProcess } from "../../daemon/ports.ts";

const SHIPPED = join(import.meta.dirname, "../../policies");

export function shippedFiles(): readonly RawFile[] {
  return readPolicyDirectory(SHIPPED, {
    wanted: isPolicyFile,
    maxBytes: 1_048_576,
    maxFiles: 256,
    owner: null,
  });
}

let warm: CedarProcess | null = null;

/** Cedar's process as it was left: starting one takes longer than all else. A load that kills it gets a new one. */
export function openWarm(): CedarProcess {
  const cedar = warm ?? openCedarProcess();
  warm = cedar;
  const ask: CedarProcess["ask"] = async (order) => {
    try {
      return await cedar.ask(order);
    } catch (error) {
      warm = null;
      throw error;
    }
  };
  return { ask, end: () => undefined };
}

/** Loads with Cedar itself. */
export function load(
  files: readonly RawFile[],
  entities: RegistryFile | null = null,
  open: () => CedarProcess = openWarm,
): Promise<Loaded> {
  return loadPolicies(files, entities, open);
}

export async function loadGood(files: readonly RawFile[]): Promise<Extract<Loaded, { ok: true }>> {
  const loaded = await load(files);
  if (!loaded.ok) throw new Error(loaded.problems.map(renderFileProblem).join("\n"));
  return loaded;
}

export function file(name: string, text: string): RawFile {
  return { name, bytes: Buffer.from(text) };
}

/** The shipped schema with policies and cases of one's own. */
export function small(policies: string, cases: string): readonly RawFile[] {
  const schema = shippedFiles().filter(({ name }) => name === "schema.cedarschema");
  return [...schema, file("a.cedar", policies), file("a.cases.yaml", cases)];
}

/** A case that holds of most small sets: nothing is permitted. */
export const NOTHING =
  'cases: [{ who: "User::1", action: recall, resource: "memory::n", mode: OPEN, answer: deny, by: [] }]';

export function registry(shapes: Shapes, text: Partial<RegistryText> = {}): Registry {
  const made = createRegistry(shapes, { ...EMPTY_REGISTRY_TEXT, ...text });
  if ("problems" in made) throw new Error(made.problems.join("\n"));
  return made.registry;
}

export function question(
  action: string,
  resource: readonly [type: string, id: string],
  properties: Readonly<Record<string, Json>> = {},
  context: Readonly<Record<string, Json>> = {},
): AccessRequest {
  return {
    subject: { type: "User", id: "1000", properties: {} },
    action: { name: action, properties: {} },
    resource: { type: resource[0], id: resource[1], properties },
    context,
  };
}

export const USER: Principal = { type: "User", id: "1000", roles: [] };

export function situation(change: Partial<AskedSituation> = {}): AskedSituation {
  return {
    wanted: "OPEN",
    applied: "OPEN",
    assurance: "enforced",
    frozen: false,
    trustedInterfaces: [],
    wallMs: 1_767_225_600_000,
    leases: [],
    approved: false,
    token: false,
    ...change,
  };
}
