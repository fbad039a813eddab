import { fileURLToPath } from "node:url";
import { openCedarThread } from "../../daemon/adapters/cedar-thread.ts";
import { readPolicyDirectory } from "../../daemon/adapters/policy-directory.ts";
import { MAX_CONFIG_BYTES, renderProblems } from "../../daemon/core/config-parse.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { decodeUtf8 } from "../../daemon/core/json.ts";
import {
  isPolicyFile,
  MAX_FILES,
  MAX_POLICY_BYTES,
  renderFileProblem,
} from "../../daemon/policy/policy-files.ts";
import type { PolicySet } from "../../daemon/policy/policy-set.ts";
import {
  createRegistry,
  EMPTY_REGISTRY_TEXT,
  parseRegistry,
  type Registry,
} from "../../daemon/policy/registry.ts";
import { type Loaded, loadPolicies } from "../../daemon/policy-load.ts";
import { usageError } from "../exit.ts";
import { readSmallFile } from "../read-file.ts";

const SHIPPED = fileURLToPath(new URL("../../policies", import.meta.url));

/** The directory that is named, or the shipped one. */
export function policyDirectory(given: string | undefined): string {
  return given ?? SHIPPED;
}

/** Loads a directory as the daemon would, whoever owns it. Throws BoundaryError("config-unreadable"). */
export function loadDirectory(directory: string): Promise<Loaded> {
  const files = readPolicyDirectory(directory, {
    wanted: isPolicyFile,
    maxBytes: MAX_POLICY_BYTES,
    maxFiles: MAX_FILES,
    owner: null,
  });
  return loadPolicies(files, openCedarThread);
}

/** A directory that loads. Throws BoundaryError("policy-invalid") with every fault where it does not. */
export async function goodSet(directory: string): Promise<Extract<Loaded, { ok: true }>> {
  const loaded = await loadDirectory(directory);
  if (loaded.ok) return loaded;
  throw new BoundaryError(
    "policy-invalid",
    `${directory}: ${loaded.problems.map(renderFileProblem).join("\n")}`,
  );
}

/** The registry of a file; an empty one without it. Throws BoundaryError: "argument-invalid", "config-invalid". */
export function registryOf(set: PolicySet, file: string | undefined): Registry {
  const text = file === undefined ? null : readTextFile(file, MAX_CONFIG_BYTES);
  const parsed = text === null ? null : parseRegistry(text);
  if (parsed !== null && !parsed.ok)
    throw new BoundaryError("config-invalid", renderProblems(file ?? "", parsed.problems));
  const made = createRegistry(set.shapes, parsed?.ok ? parsed.value : EMPTY_REGISTRY_TEXT);
  if ("problems" in made)
    throw new BoundaryError("config-invalid", `${file ?? ""}: ${made.problems.join("\n")}`);
  return made.registry;
}

/** A small text file, UTF-8. Throws a usage error where there is none. */
export function readTextFile(path: string, mostBytes: number): string {
  let bytes: Buffer | null;
  try {
    bytes = readSmallFile(path, mostBytes);
  } catch (cause) {
    throw new BoundaryError("config-unreadable", `reading ${path}`, { cause });
  }
  if (bytes === null) throw usageError(`there is no file ${path}`);
  const text = decodeUtf8(bytes);
  if (!text.ok) throw new BoundaryError("config-unreadable", `reading ${path}: it is not UTF-8`);
  return text.value;
}
