// What we use of node-ipc 14.0.0, which ships no types (dao/socketServer.js, entities/EventParser.js).
declare module "node-ipc" {
  import type { Server, Socket } from "node:net";

  export type IpcSocket = Socket & { ipcBuffer: unknown };

  export type IpcServer = {
    readonly server: Server | false;
    start(): void;
    stop(): void;
    emit(socket: Socket, type: string, data: unknown): boolean;
    on(type: string, handler: (...args: never[]) => void): IpcServer;
  };

  export class IPCModule {
    readonly config: Record<string, unknown>;
    readonly server: IpcServer;
    serve(path: string, then: () => void): void;
  }
}

declare module "node-ipc/parsers" {
  export class GuardedParser {
    constructor(config: Record<string, unknown>);
    messageTimeout: number;
    encode(type: string, data: unknown): string | Buffer;
    read(held: unknown, data: string, receive: (message: { type: string; data: unknown }) => void): unknown;
  }

  export class IPCProtocolError extends Error {
    constructor(code: string, message: string);
    readonly code: string;
  }
}
