import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import type { ExportFile } from "../ports.ts";
import { makeDirectory } from "./own-directory.ts";
import { eraseSecret, writeBeside } from "./secret-file.ts";

/** A file (0600) in a directory of its own (0700) below the runtime directory: in memory, and gone with the boot. */
export function openExportFile(runtimeDir: string, name: string): ExportFile {
  const directory = join(runtimeDir, "export");
  const path = join(directory, name);

  function attempt(doing: string, work: () => void): void {
    try {
      work();
    } catch (cause) {
      throw new BoundaryError("state-unwritable", `${doing} ${path}`, { cause });
    }
  }

  return {
    path,
    write: (bytes) =>
      attempt("writing", () => {
        makeDirectory(directory);
        const { uid, mode } = fs.lstatSync(directory);
        if (uid !== process.geteuid?.() || (mode & 0o077) !== 0)
          throw new Error(`${dirname(path)} is not ours alone`);
        writeBeside(directory, name, bytes);
        eraseSecret(directory, name);
        fs.renameSync(`${path}.new`, path);
      }),
    erase: () =>
      attempt("erasing", () => {
        if (!fs.existsSync(directory)) return;
        // a crash may have left what was to take its place
        for (const each of [name, `${name}.new`]) eraseSecret(directory, each);
      }),
  };
}
