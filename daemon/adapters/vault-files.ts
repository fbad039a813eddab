import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import { directoryFault, type Look } from "../core/ownership.ts";
import type { VaultFile, VaultFiles } from "../ports.ts";
import { makeDirectory, syncDirectory } from "./own-directory.ts";
import { eraseSecret, finishErasing, readSecret, writeBeside } from "./secret-file.ts";

const MAX_BYTES = 65_536;
/** What a prepared file ends with; `load` erases those that a crash left. */
const PREPARED = ".new";
const WORKSPACE = /^[a-z0-9][a-z0-9_-]{0,62}$/;

/** The vault's files below a directory that is made when it is not there. See the port. */
export function openVaultFiles(directory: string): VaultFiles {
  const pathOf = (workspace: string) => join(directory, workspace);

  function prepare(workspace: string, name: string, bytes: Uint8Array): void {
    attempt(`writing ${name} of the workspace ${workspace}`, () => {
      makeDirectory(pathOf(workspace));
      requireSafe(pathOf(workspace));
      writeBeside(pathOf(workspace), name, bytes);
      syncDirectory(pathOf(workspace));
    });
  }

  function commit(workspace: string, name: string): void {
    attempt(`naming ${name} of the workspace ${workspace}`, () => {
      const path = join(pathOf(workspace), name);
      fs.renameSync(`${path}${PREPARED}`, path);
      syncDirectory(pathOf(workspace));
    });
  }

  return {
    load() {
      makeDirectory(directory);
      requireSafe(directory);
      return fs
        .readdirSync(directory)
        .filter((name) => WORKSPACE.test(name))
        .toSorted()
        .map((workspace) => {
          requireSafe(pathOf(workspace));
          return { workspace, files: filesIn(pathOf(workspace)) };
        });
    },
    read: (workspace, name) => readFile(pathOf(workspace), name),
    replace(workspace, name, bytes) {
      prepare(workspace, name, bytes);
      commit(workspace, name);
    },
    prepare,
    commit,
    erase(workspace, name) {
      attempt(`erasing ${name} of the workspace ${workspace}`, () => {
        if (!fs.existsSync(pathOf(workspace))) return;
        for (const each of [`${name}${PREPARED}`, name]) eraseSecret(pathOf(workspace), each);
      });
    },
  };
}

function filesIn(directory: string): readonly VaultFile[] {
  attempt(`erasing what was left in ${directory}`, () => {
    finishErasing(directory);
    for (const name of fs.readdirSync(directory)) if (name.endsWith(PREPARED)) eraseSecret(directory, name);
  });
  return fs
    .readdirSync(directory)
    .toSorted()
    .map((name) => readFile(directory, name));
}

function readFile(directory: string, name: string): VaultFile {
  try {
    const bytes = readSecret(join(directory, name), MAX_BYTES);
    return bytes === null ? { name, bytes, why: "it is gone" } : { name, bytes };
  } catch (error) {
    return { name, bytes: null, why: error instanceof Error ? error.message : "it cannot be read" };
  }
}

/** Nobody else may look into it, or put something there. */
function requireSafe(directory: string): void {
  const stat = fs.lstatSync(directory);
  const kind: Look["kind"] = stat.isDirectory() ? "directory" : "other";
  const look = { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
  const open = stat.mode & 0o077;
  const fault =
    directoryFault(look, process.geteuid?.() ?? -1) ??
    (open === 0 ? null : `has mode 0${(stat.mode & 0o777).toString(8)}: others have access`);
  if (fault !== null) throw new BoundaryError("vault-unsafe", `using ${directory}: it ${fault}`);
}

function attempt(doing: string, work: () => void): void {
  try {
    work();
  } catch (cause) {
    if (cause instanceof BoundaryError) throw cause;
    throw new BoundaryError("state-unwritable", doing, { cause });
  }
}
