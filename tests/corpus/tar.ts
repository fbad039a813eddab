import { gunzipSync } from "node:zlib";

const BLOCK = 512;
const REGULAR = ["0", "\0"];
/** Descriptions of the next entry by pax, which hold nothing that is needed here. */
const DESCRIPTIONS = ["x", "g"];

/** The regular files of a .tar.gz by name. Throws for what a plain archive of short names does not have. */
export function readTarGz(archive: Uint8Array): ReadonlyMap<string, string> {
  const tar = gunzipSync(archive);
  const files = new Map<string, string>();
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const name = textAt(tar, at, 100);
    if (name === "") break;
    const size = Number.parseInt(textAt(tar, at + 124, 12), 8);
    const kind = tar.toString("latin1", at + 156, at + 157);
    const prefix = textAt(tar, at + 345, 155);
    if (!Number.isSafeInteger(size)) throw new Error(`${name}: no size`);
    if (REGULAR.includes(kind))
      files.set(
        prefix === "" ? name : `${prefix}/${name}`,
        tar.toString("utf8", at + BLOCK, at + BLOCK + size),
      );
    else if (kind !== "5" && !DESCRIPTIONS.includes(kind))
      throw new Error(`${name}: a tar entry of kind ${kind}`);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

function textAt(tar: Buffer, at: number, length: number): string {
  const [text = ""] = tar.toString("utf8", at, at + length).split("\0");
  return text.trim();
}
