import { fileURLToPath } from "node:url";
import { openCedarProcess } from "../adapters/cedar-process.ts";
import { openKeptPolicies } from "../adapters/kept-policies.ts";
import { readOwnedFile, readPolicyDirectory } from "../adapters/policy-directory.ts";
import type { Config } from "../core/config.ts";
import { MAX_CONFIG_BYTES } from "../core/config-parse.ts";
import { BoundaryError } from "../core/errors.ts";
import { decodeUtf8 } from "../core/json.ts";
import { createPolicies, type Policies, type PoliciesParts } from "../policies.ts";
import { isPolicyFile, MAX_FILES, MAX_POLICY_BYTES } from "../policy/policy-files.ts";
import { opLog } from "./journal.ts";

const OWN_UID = process.getuid?.() ?? 0;
const SHIPPED = fileURLToPath(new URL("../../policies", import.meta.url));

/**
 * The policies of a configuration, not loaded yet. A directory that somebody named has to be root's or our own and
 * writable by nobody else; the shipped one is as safe as the program beside it.
 */
export function openPolicies(
  config: Config["policy"],
  parts: Pick<PoliciesParts, "version" | "random" | "record" | "disagreed" | "unjudged" | "memory"> & {
    readonly stateDir: string;
  },
): Policies {
  const { directory, entitiesFile, refereeEvery } = config;
  return createPolicies({
    ...parts,
    files: () =>
      readPolicyDirectory(directory ?? SHIPPED, {
        wanted: isPolicyFile,
        maxBytes: MAX_POLICY_BYTES,
        maxFiles: MAX_FILES,
        owner: directory === undefined ? null : OWN_UID,
      }),
    entities: () => (entitiesFile === undefined ? null : readEntities(entitiesFile)),
    openCedar: openCedarProcess,
    kept: openKeptPolicies(parts.stateDir),
    refereeEvery,
    opLog,
  });
}

function readEntities(path: string): { readonly path: string; readonly text: string } {
  const text = decodeUtf8(readOwnedFile(path, { maxBytes: MAX_CONFIG_BYTES, owner: OWN_UID }));
  if (!text.ok) throw new BoundaryError("config-unreadable", `reading ${path}: it is not UTF-8`);
  return { path, text: text.value };
}
