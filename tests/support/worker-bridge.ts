import { spawn } from "node:child_process";
import { connect } from "node:net";

/**
 * A stand-in for the bridge to the egress proxy: run inside a sandbox as `bridge SOCKET -- CMD ARGS…`, it sends a line to the
 * socket, tells its command what came back, and runs it.
 */
const [, , path = "", , command = "", ...args] = process.argv;
const socket = connect({ path });
socket.on("error", (error) => {
  process.stderr.write(`bridge: ${error.message}\n`);
  process.exit(125);
});
socket.write("who is there?\n");
socket.once("data", (chunk: Buffer) => {
  const env = { ...process.env, PROXY_SAYS: chunk.toString("utf8").trim() };
  const child = spawn(command, args, { stdio: "inherit", env });
  child.on("exit", (code) => process.exit(code ?? 1));
});
