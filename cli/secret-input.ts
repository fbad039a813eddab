import type { ReadStream } from "node:tty";
import type { Common } from "./command.ts";
import { usageError } from "./exit.ts";

const CTRL_C = 0x03;
const CTRL_D = 0x04;
const BACKSPACE = 0x08;
const CTRL_U = 0x15;
const DELETE = 0x7f;
const MAX_TYPED_BYTES = 4_096;

/** Throws a usage error where the token is to come from stdin, too. Before either is read. */
export function keepStdin({ tokenFile }: Pick<Common, "tokenFile">): void {
  if ((tokenFile ?? process.env["BOUNDARY_TOKEN_FILE"]) === "-")
    throw usageError("stdin is for the secret here: give the token in a file");
}

/** All of stdin, for the caller to wipe; null when it is more than `mostBytes`. */
export async function readStdin(mostBytes: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > mostBytes) return null;
    chunks.push(chunk);
  }
  const whole = Buffer.concat(chunks);
  for (const chunk of chunks) chunk.fill(0);
  return whole;
}

/**
 * A secret, for the caller to wipe: typed at a terminal without being shown, else all of stdin without one line break
 * at its end (`exact`: with it). Never an argument, never the environment: others can see those. Throws a usage error
 * when there is nothing, or more than `mostBytes`.
 */
export async function readSecretInput(
  question: string,
  { mostBytes, exact = false }: { readonly mostBytes: number; readonly exact?: boolean },
): Promise<Buffer> {
  const given = process.stdin.isTTY ? await typed(process.stdin, question) : await readStdin(mostBytes);
  if (given === null) throw usageError(`a secret has at most ${mostBytes} bytes`);
  const end = !exact && given.at(-1) === 0x0a ? given.length - 1 : given.length;
  if (end === 0) throw usageError("nothing was given: type it, or pipe it in");
  if (end > mostBytes) throw usageError(`a secret has at most ${mostBytes} bytes`);
  return given.subarray(0, end);
}

/** The same twice at a terminal, where nobody sees what he types. */
export async function readNewPassphrase(question: string, mostBytes: number): Promise<Buffer> {
  const first = await readSecretInput(question, { mostBytes });
  if (!process.stdin.isTTY) return first;
  const second = await readSecretInput("once more: ", { mostBytes });
  const same = first.equals(second);
  second.fill(0);
  if (same) return first;
  first.fill(0);
  throw usageError("the two are not the same");
}

/** One line in raw mode: the terminal shows nothing of it. */
function typed(terminal: ReadStream, question: string): Promise<Buffer> {
  process.stderr.write(question);
  const line = Buffer.alloc(MAX_TYPED_BYTES);
  let length = 0;
  terminal.setRawMode(true);
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void) => {
      terminal.off("data", take);
      terminal.setRawMode(false);
      terminal.pause();
      process.stderr.write("\n");
      settle();
    };
    const take = (chunk: Buffer) => {
      for (const byte of chunk) {
        if (byte === 0x0a || byte === 0x0d || byte === CTRL_D)
          return finish(() => resolve(line.subarray(0, length)));
        if (byte === CTRL_C) return finish(() => reject(usageError("given up")));
        if (byte === CTRL_U) length = 0;
        else if (byte === BACKSPACE || byte === DELETE) length = withoutLast(line, length);
        else if (length < MAX_TYPED_BYTES) line[length++] = byte;
      }
      chunk.fill(0);
    };
    terminal.on("data", take);
    terminal.resume();
  });
}

/** One character less: in UTF-8 it may be more than a byte. */
function withoutLast(line: Buffer, length: number): number {
  let end = Math.max(0, length - 1);
  while (end > 0 && ((line[end] ?? 0) & 0xc0) === 0x80) end--;
  return end;
}
