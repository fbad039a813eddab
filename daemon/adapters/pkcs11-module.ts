import * as fs from "node:fs";
import { endianness } from "node:os";
import { dirname } from "node:path";
import koffi from "koffi";
import { type Look, sharedFault } from "../core/ownership.ts";
import { hasLargeStacks } from "./koffi-stacks.ts";
import type { Packed } from "./pkcs11-layout.ts";

/**
 * What we call, with its place in CK_FUNCTION_LIST and its arguments: a CK_ULONG or handle (u), a CK_BBOOL (b), or a
 * pointer (p). Each gives a CK_RV.
 */
const FUNCTIONS = {
  C_Initialize: [0, "p"],
  C_Finalize: [1, "p"],
  C_GetSlotList: [4, "bpp"],
  C_GetTokenInfo: [6, "up"],
  C_OpenSession: [12, "uuppp"],
  C_CloseSession: [13, "u"],
  C_GetSessionInfo: [15, "up"],
  C_Login: [18, "uupu"],
  C_Logout: [19, "u"],
  C_DestroyObject: [22, "uu"],
  C_GetAttributeValue: [24, "uupu"],
  C_FindObjectsInit: [26, "upu"],
  C_FindObjects: [27, "upup"],
  C_FindObjectsFinal: [28, "u"],
  C_EncryptInit: [29, "upu"],
  C_Encrypt: [30, "upupp"],
  C_DecryptInit: [33, "upu"],
  C_Decrypt: [34, "upupp"],
  C_GenerateKey: [58, "uppup"],
} as const;
const TYPES = { u: "ulong", b: "uint8_t", p: "void *" } as const;
/** CK_VERSION, and what aligns the pointers after it. */
const LIST_HEAD_BYTES = 8n;

/** koffi unloads a library that is not held any more, whatever pointers into it there are. */
const held: unknown[] = [];

export type FunctionName = keyof typeof FUNCTIONS;
type Native = ReturnType<ReturnType<typeof koffi.load>["func"]>;
type Argument = bigint | number | Buffer | Packed | null;

/** A PKCS#11 module in this process. */
export type Pkcs11Module = {
  /** On a thread of Node's pool; resolves to the CK_RV. One at a time. */
  call(name: FunctionName, ...args: readonly Argument[]): Promise<number>;
  /** In this thread: the loop waits for it. */
  callNow(name: FunctionName, ...args: readonly Argument[]): number;
};

/** Why a module is not to be loaded, "" when it may: its code becomes ours. It and all above it have to be root's or ours. */
export function moduleFault(path: string): string {
  if (endianness() !== "LE" || koffi.sizeof("ulong") !== 8 || koffi.sizeof("void *") !== 8)
    return "PKCS#11 takes a 64-bit, little-endian host";
  let real: string;
  try {
    real = fs.realpathSync(path);
    for (let at = real; ; at = dirname(at)) {
      const fault = sharedFault(lookAt(at), at === real ? "file" : "directory", process.geteuid?.() ?? -1);
      if (fault !== null) return `${at} ${fault}`;
      if (at === dirname(at)) return "";
    }
  } catch (error) {
    return `${path}: ${error instanceof Error && "code" in error ? String(error.code) : "it cannot be looked at"}`;
  }
}

function lookAt(path: string): Look {
  const stat = fs.lstatSync(path);
  const kind = stat.isFile() ? "file" : stat.isDirectory() ? "directory" : "other";
  return { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
}

/** Loads a module for good. Synchronous. Throws an Error where it is not to be trusted, cannot be loaded, or is none. */
export function loadPkcs11(path: string): Pkcs11Module {
  const fault = moduleFault(path);
  if (fault !== "") throw new Error(fault);
  if (!hasLargeStacks()) throw new Error("koffi was used before its stacks were made large enough");
  const library = koffi.load(fs.realpathSync(path));
  held.push(library);
  const getFunctionList = library.func("unsigned long C_GetFunctionList(void *list)");
  const pointer = Buffer.alloc(8);
  const answer: unknown = getFunctionList(pointer);
  const list = pointer.readBigUInt64LE();
  if (answer !== 0 || list === 0n) throw new Error(`C_GetFunctionList gave ${String(answer)}`);
  const major: unknown = koffi.decode(list, "uint8_t");
  if (major !== 2 && major !== 3) throw new Error(`it is of version ${String(major)} of PKCS#11`);
  const functions = Object.fromEntries(
    Object.entries(FUNCTIONS).map(([name, [index, signature]]) => [name, bind(list, index, signature, name)]),
  ) as Record<FunctionName, Native>;

  return {
    call: (name, ...args) =>
      new Promise((resolve, reject) => {
        const kept: Argument[] = [...args];
        functions[name].async(...args.map(plain), (error: unknown, said: unknown) => {
          kept.length = 0; // until here what the pointers point to was held
          if (error) reject(error instanceof Error ? error : new Error(String(error)));
          else resolve(Number(said));
        });
      }),
    callNow(name, ...args) {
      const kept: Argument[] = [...args];
      const said: unknown = functions[name](...args.map(plain));
      kept.length = 0;
      return Number(said);
    },
  };
}

function bind(list: bigint, index: number, signature: string, name: string): Native {
  const address: unknown = koffi.decode(list + LIST_HEAD_BYTES + BigInt(index * 8), "uint64_t");
  if (!address) throw new Error(`the module has no ${name}`);
  const types = Array.from(signature).map((letter) => TYPES[letter as keyof typeof TYPES]);
  return koffi.decode(BigInt(address as number | bigint), koffi.proto(null, "ulong", types)) as Native;
}

function plain(argument: Argument): bigint | number | null {
  if (argument === null || typeof argument === "bigint" || typeof argument === "number") return argument;
  return koffi.address(Buffer.isBuffer(argument) ? argument : argument.bytes);
}
