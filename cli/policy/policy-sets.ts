import { fileURLToPath } from "node:url";
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import { readPolicyDirectory } from "../../daemon/adapters/policy-directory.ts";
import { MAX_CONFIG_BYTES } from "../../daemon/core/config-parse.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { decodeUtf8 } from "../../daemon/core/json.ts";
import {
  type Draft,
  draftOf,
  isPolicyFile,
  MAX_FILES,
  MAX_POLICY_BYTES,
  type RawFile,
  renderFileProblem,
} from "../../daemon/policy/policy-files.ts";
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
  return loadPolicies(filesOf(directory), null, openCedarProcess);
}

/**
 * A directory that loads, with a registry's file or an empty one. Throws BoundaryError("policy-invalid") with every
 * fault where it does not, and a usage error where there is no such file.
 */
export async function goodSet(
  directory: string,
  entities?: string,
): Promise<Extract<Loaded, { ok: true }> & { readonly cases: Draft["cases"] }> {
  const files = filesOf(directory);
  const registry =
    entities === undefined ? null : { path: entities, text: readTextFile(entities, MAX_CONFIG_BYTES) };
  const loaded = await loadPolicies(files, registry, openCedarProcess);
  const drafted = draftOf(files);
  if (loaded.ok && "draft" in drafted) return { ...loaded, cases: drafted.draft.cases };
  const problems = loaded.ok ? [] : loaded.problems.map(renderFileProblem);
  throw new BoundaryError("policy-invalid", `${directory}: ${problems.join("\n")}`);
}

function filesOf(directory: string): readonly RawFile[] {
  return readPolicyDirectory(directory, {
    wanted: isPolicyFile,
    maxBytes: MAX_POLICY_BYTES,
    maxFiles: MAX_FILES,
    owner: null,
  });
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
