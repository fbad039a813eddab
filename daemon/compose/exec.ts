import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { openEgressDoor } from "../adapters/egress-door.ts";
import { createExecHost } from "../adapters/exec-host.ts";
import { openExecWorker } from "../adapters/exec-worker.ts";
import { peerOf } from "../adapters/peer.ts";
import type { EgressConfig } from "../core/config.ts";
import { renderProblems } from "../core/config-parse.ts";
import { BoundaryError } from "../core/errors.ts";
import { type ExecProfiles, parseExecProfiles } from "../exec/profile.ts";
import { createExec, type Exec, type ExecParts } from "../exec-run.ts";

/**
 * Where the worker and the egress process have their sockets, beside the runtime directory: in that, which is ours, nobody
 * could make a directory for another user without trusting us not to have put a link there.
 */
const [WORKER, EGRESS] = ["-worker", "-egress"];

/** Guarded commands, with the host, the worker and the egress process as they are. */
export function openExec(
  parts: Omit<ExecParts, "host" | "worker" | "egress">,
  place: { readonly runtimeDir: string; readonly random: () => number; readonly egress: EgressConfig },
): Exec {
  const { daemon, opLog } = parts;
  const { runtimeDir, random } = place;
  const link = { peerOf, random, opLog };
  return createExec({
    ...parts,
    host: createExecHost(),
    worker: openExecWorker({ ...link, path: `${runtimeDir}${WORKER}/worker.sock` }),
    egress: openEgressDoor({
      ...link,
      directory: `${runtimeDir}${EGRESS}`,
      config: place.egress,
      append(entry) {
        // the stop is the last record
        if (daemon.stopping())
          throw new BoundaryError("stopping", `appending a record of kind ${entry.kind}`);
        return daemon.record(entry);
      },
    }),
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
