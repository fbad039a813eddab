import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import type { UsbRulesStore } from "../ports.ts";
import { syncDirectory } from "./own-directory.ts";

const MAX_BYTES = 1_048_576;
const { O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_TRUNC, O_WRONLY } = fs.constants;

type Loaded = ReturnType<UsbRulesStore["load"]>;

/**
 * The permanent rules as `usb.rules` in the state directory (0600). New ones are written beside, to `usb.rules.new`, and
 * take the place once the log has signed their digest: whatever a crash leaves, one of the two is the one that the log
 * signed.
 */
export function openUsbRulesFile(stateDir: string): UsbRulesStore {
  const path = join(stateDir, "usb.rules");
  const beside = `${path}.new`;

  function finish(): void {
    fs.renameSync(beside, path);
    syncDirectory(stateDir);
  }

  return {
    path,
    load(isSigned) {
      const present = read(path);
      if (present.kind === "rules" && isSigned(present.text)) return present;
      const next = read(beside);
      if (next.kind === "rules" && isSigned(next.text)) {
        finish();
        return next;
      }
      return present.kind === "rules"
        ? { kind: "unreadable", why: "they are not the ones that the log signed" }
        : present;
    },
    prepare(text) {
      try {
        writeSynced(beside, text);
        syncDirectory(stateDir);
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `writing ${beside}`, { cause });
      }
    },
    commit() {
      try {
        finish();
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `replacing ${path}`, { cause });
      }
    },
  };
}

function read(path: string): Loaded {
  try {
    const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const stat = fs.fstatSync(fd);
      if (!stat.isFile() || stat.size > MAX_BYTES) return { kind: "unreadable", why: "no file of rules" };
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(fs.readFileSync(fd));
      return { kind: "rules", text };
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    const isText = !(error instanceof TypeError);
    const code = isText && error instanceof Error && "code" in error ? String(error.code) : "not UTF-8";
    return code === "ENOENT"
      ? { kind: "missing" }
      : { kind: "unreadable", why: `they cannot be read (${code})` };
  }
}

function writeSynced(path: string, text: string): void {
  const bytes = Buffer.from(text);
  if (bytes.length > MAX_BYTES) throw new Error(`${bytes.length} bytes are more than can be read back`);
  fs.rmSync(path, { force: true });
  const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    fs.writeFileSync(fd, bytes);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
