import koffi from "koffi";
import { listTables, type NftAnswer, required } from "../core/nft-tables.ts";
import type { Firewall } from "../ports.ts";
import { openGeneration } from "./nft-generation.ts";

/**
 * The packet filter through libnftables.so.1 in this process (its network namespace). One context, kept for good; calls
 * are synchronous. Gives what is missing where the library cannot be loaded. Rights are not tested here.
 */
export function openLibnftables(): Firewall | { readonly unavailable: string } {
  try {
    const command = bind();
    return {
      via: "libnftables",
      run: (script) => void required(command(script), "loading rules"),
      list: (name) => listTables(command, name),
      generation: openGeneration(),
    };
  } catch (error) {
    return { unavailable: `libnftables.so.1: ${error instanceof Error ? error.message : String(error)}` };
  }
}

type Command = (text: string) => NftAnswer;

function bind(): Command {
  const library = koffi.load("libnftables.so.1");
  const newContext = library.func("void *nft_ctx_new(uint32_t flags)");
  const bufferOutput = library.func("int nft_ctx_buffer_output(void *ctx)");
  const bufferError = library.func("int nft_ctx_buffer_error(void *ctx)");
  const runBuffer = library.func("int nft_run_cmd_from_buffer(void *ctx, const char *text)");
  // the context owns these strings: koffi copies them and must not free them
  const outputBuffer = library.func("const char *nft_ctx_get_output_buffer(void *ctx)");
  const errorBuffer = library.func("const char *nft_ctx_get_error_buffer(void *ctx)");

  const context: unknown = newContext(0);
  if (!context) throw new Error("nft_ctx_new gave no context");
  if (bufferOutput(context) !== 0 || bufferError(context) !== 0) throw new Error("no memory for its buffers");
  return (text) => {
    const code: unknown = runBuffer(context, text);
    // reading a buffer also rewinds it: both, after every command, or the next one's answer begins with this one's
    return {
      ok: code === 0,
      output: String(outputBuffer(context)),
      complaint: String(errorBuffer(context)),
    };
  };
}
