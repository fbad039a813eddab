import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { serveDns, type Zone } from "./dns-server.ts";

/**
 * Runs in a namespace of its own: the world behind the proxy. `node egress-origin.ts ADDRESS CERT KEY ZONE`. HTTP on 80
 * and 8080, TLS on 443 and a name server; says "ready", then a line for everything that it hears.
 */
const [address = "", cert = "", key = "", zone = "{}"] = process.argv.slice(2);

function answer(request: IncomingMessage, response: ServerResponse): void {
  const secure = "encrypted" in request.socket;
  console.log(`${secure ? "https" : "http"} ${request.method} ${request.headers.host} ${request.url}`);
  if (request.url === "/slow") {
    const timer = setInterval(() => response.write("slowly\n"), 20);
    response.on("close", () => {
      clearInterval(timer);
      console.log("slow ended");
    });
  } else request.on("end", () => response.end("the world\n")).resume();
}

const secrets = { cert: readFileSync(cert), key: readFileSync(key) };
const servers = [
  [createServer(answer), 80],
  [createServer(answer), 8080],
  [createTlsServer(secrets, answer), 443],
] as const;
await Promise.all(
  servers.map(([server, port]) => new Promise<void>((resolve) => server.listen(port, address, resolve))),
);
await serveDns(address, JSON.parse(zone) as Zone, (name) => console.log(`dns ${name}`));
console.log("ready");
process.stdin.on("end", () => process.exit(0)).resume();
