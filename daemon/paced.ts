import type { Chunk } from "./audit/split.ts";

/** So much is worked on in one go: under a millisecond. */
const PIECE_BYTES = 16 * 1024;

/**
 * The same bytes in small pieces, with a turn of the loop between them: for work on a log beside the loop, which holds
 * nobody up. `between` is asked before each, and may wait, or end it.
 */
export async function* paced(
  chunks: AsyncIterable<Chunk>,
  between: () => Promise<"go-on" | "stop"> = async () => "go-on",
): AsyncGenerator<Chunk> {
  for await (const { file, bytes, at = 0 } of chunks) {
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
      if ((await between()) === "stop") return;
      yield { file, bytes: bytes.subarray(from, from + PIECE_BYTES), at: at + from };
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
