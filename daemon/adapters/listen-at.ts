import type { Server } from "node:net";
import { BoundaryError } from "../core/errors.ts";
import type { SocketPlace } from "../ports.ts";

/**
 * Lets a server listen at a place; resolves when it is published. Throws BoundaryError "socket-in-use" or
 * "socket-unsafe", and the server is closed then.
 */
export function listenAt(server: Server, place: SocketPlace): Promise<void> {
  return new Promise((resolve, reject) => {
    let started = false;
    server.on("error", (cause: unknown) => {
      if (!started) reject(new BoundaryError("socket-unsafe", `listening at ${place.bindPath}`, { cause }));
    });
    server.on("listening", () => {
      try {
        place.publish();
        started = true;
        resolve();
      } catch (error) {
        server.close();
        reject(error);
      }
    });
    // bind happens inside listen(), synchronously: no other file is made under this umask
    const before = process.umask(0o177);
    try {
      server.listen(place.bindPath);
    } finally {
      process.umask(before);
    }
  });
}
