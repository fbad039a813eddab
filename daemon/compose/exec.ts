import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createExecHost } from "../adapters/exec-host.ts";
import { openExecWorker } from "../adapters/exec-worker.ts";
import { peerOf } from "../adapters/peer.ts";
import { renderProblems } from "../core/config-parse.ts";
import { BoundaryError } from "../core/errors.ts";
import { type ExecProfiles, parseExecProfiles } from "../exec/profile.ts";
import { createExec, type Exec, type ExecParts } from "../exec-run.ts";

/** Where the worker listens, below the runtime directory. */
const WORKER_SOCKET = "worker/worker.sock";

/** Guarded commands, with the host and the worker as they are. */
export function openExec(
  parts: Omit<ExecParts, "host" | "worker" | "egress">,
  place: { readonly runtimeDir: string; readonly random: () => number },
): Exec {
  const path = `${place.runtimeDir}/${WORKER_SOCKET}`;
  return createExec({
    ...parts,
    host: createExecHost(),
    worker: openExecWorker({ path, peerOf, random: place.random, opLog: parts.opLog }),
    // the proxy is not part of this yet: what wants the network is refused
    egress: null,
  });
}

/** The file that comes with the program. Throws BoundaryError "config-invalid". */
export function readShippedProfiles(): ExecProfiles {
  const file = fileURLToPath(new URL("../../policies/exec.yaml", import.meta.url));
  return readProfiles(file, readFileSync(file, "utf8"));
}

/** Throws BoundaryError "config-invalid", with every fault. */
export function readProfiles(file: string, text: string): ExecProfiles {
  const parsed = parseExecProfiles(text);
  if (!parsed.ok) throw new BoundaryError("config-invalid", renderProblems(file, parsed.problems));
  return parsed.value;
}
