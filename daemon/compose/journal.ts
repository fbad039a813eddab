import { createOpLog } from "../adapters/op-log.ts";

/** The operational log of this process. */
export const opLog = createOpLog({ level: process.env["BOUNDARY_LOG_LEVEL"] ?? "info" });
