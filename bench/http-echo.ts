import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A bare node:http server on a Unix socket, nothing of ours: what decide.sock is held against. `node bench/http-echo.ts`
 * prints its socket's path.
 */
export function httpRequest(target: string, body: string, headers: readonly string[] = []): string {
  const lines = [
    `POST ${target} HTTP/1.1`,
    "Host: localhost",
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...headers,
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

export function isWholeResponse(heard: Buffer): boolean {
  const end = heard.indexOf("\r\n\r\n");
  if (end === -1) return false;
  const length = /content-length: (\d+)/i.exec(heard.toString("latin1", 0, end))?.[1];
  return heard.length >= end + 4 + Number(length ?? 0);
}

if (import.meta.main) {
  const directory = mkdtempSync(join(tmpdir(), "boundary-http-echo-"));
  const path = join(directory, "echo.sock");
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      response.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length });
      response.end(body);
    });
  });
  server.listen(path, () => console.log(path));
  process.on("SIGTERM", () => {
    server.close();
    server.closeAllConnections();
    rmSync(directory, { recursive: true, force: true });
  });
}
