import { MODES, rank } from "../core/mode.ts";
import type { CedarJson } from "./cedar-question.ts";

/** What the daemon itself says of a resource, by its id: the id as it is looked up, and the attributes; or a fault. */
export type Derived =
  | { readonly id: string; readonly attributes: Readonly<Record<string, CedarJson>> }
  | { readonly problem: string };

const HOST = /^[A-Za-z0-9._:-]{1,253}$/;
/** A name with a dot at its end is the same host. */
const LAST_DOT = /\.$/;

/** Ids that can be written in two ways are brought into one, so that the registry cannot be gone around. */
export function derive(type: string, id: string): Derived {
  switch (type) {
    case "File":
      return isPlainPath(id)
        ? { id, attributes: { path: id } }
        : { problem: 'a file\'s id is its absolute path, without "//", "." and ".."' };
    case "Host": {
      const host = id.toLowerCase().replace(LAST_DOT, "");
      return HOST.test(id) && host !== ""
        ? { id: host, attributes: { host } }
        : { problem: "a host's id is its name or address" };
    }
    case "Command":
      return { id, attributes: { program: id } };
    case "Mode": {
      const mode = MODES.find((each) => each === id);
      return mode === undefined
        ? { problem: `a mode's id is one of ${MODES.join(", ")}` }
        : { id, attributes: { rank: rank(mode) } };
    }
    default:
      return { id, attributes: {} };
  }
}

function isPlainPath(path: string): boolean {
  if (!path.startsWith("/") || path.includes("\0")) return false;
  if (path === "/") return true;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== "..");
}
