import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import { guardDescriptors } from "../../daemon/adapters/process-guard.ts";

/** Stands for the daemon: starts Cedar's process, says as JSON what it is, and goes on until it is ended. */
guardDescriptors();
const cedar = openCedarProcess();
const answer = await cedar.ask({ kind: "load", schema: "entity A;", policies: {} });
const of = (pid: string) => ({
  pid: Number(pid),
  status: readFileSync(`/proc/${pid}/status`, "utf8"),
  program: readlinkSync(`/proc/${pid}/exe`),
  environment: readFileSync(`/proc/${pid}/environ`, "utf8"),
  descriptors: readdirSync(`/proc/${pid}/fd`).map((fd) => targetOf(`/proc/${pid}/fd/${fd}`)),
});
/** "" for the one that the list itself was read with. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return "";
  }
}

const [child = ""] = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").split(" ");
process.stdout.write(`${JSON.stringify({ answer, own: of("self"), child: of(child) })}\n`);
setInterval(() => undefined, 60_000);
