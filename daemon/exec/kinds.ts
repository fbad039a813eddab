import { posix } from "node:path";
import type { Pattern } from "./pattern.ts";

/** What a value in an argument may be. A name of the profile's own patterns is a kind, too. */
export const KINDS = ["text", "word", "number", "readable", "writable", "output"] as const;

/** Where paths are judged from. All absolute and plain; `cwd` is the workspace or below it. */
export type Places = {
  readonly cwd: string;
  readonly workspace: string;
  /** What else may be read: the profile's. */
  readonly readable: readonly string[];
  /** A `cd` came before: `cwd` may be a link by now, and ".." leads anywhere. */
  readonly moved: boolean;
};

export type Kinds = {
  readonly patterns: ReadonlyMap<string, Pattern>;
  /** Names of those patterns whose texts never name a file to the program. */
  readonly notPaths: ReadonlySet<string>;
};

/** Names that hold keys, or that other programs run or obey: no kind of path lets them through, wherever they are. */
const GUARDED_NAMES =
  /^(?:\.ssh|\.aws|\.azure|\.gnupg|\.kube|\.docker|\.password-store|\.netrc|\.pgpass|\.npmrc|\.pypirc|\.git-credentials|\.my\.cnf|\.vault-token|\.env(?:\..+)?|\.envrc|shadow-?|gshadow-?|sudoers(?:\.d)?|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|.+\.(?:pem|key|p12|pfx|jks|keystore|kdbx)|credentials(?:\.json)?|secrets?\.(?:ya?ml|json|toml|env))$/i;
/** The same, of the host's own: in a workspace these are ordinary names. */
const GUARDED_OUTSIDE =
  /^(?:private|ssh_host_.+_key|opasswd|.*\.?keytab|(?:chap|pap|ipsec|ldap)[-.]secrets?|system-connections|wireguard|openvpn|ipsec\.d|debian\.cnf|sssd\.conf|credstore(?:\.encrypted)?|.*\.(?:secret|passwd|htpasswd)|boundary-daemon|secrets?)$/i;
const NO_SECRET_IN_IT = /^\.env\.(?:example|sample|template|dist)$/i;
/** What is obeyed by a program that comes later: to write it is to run something. */
const OBEYED_NAMES =
  /^(?:\.git|\.hg|\.svn|\.githooks|\.husky|\.vscode|\.idea|\.gitconfig|\.gitmodules|\.gitattributes|\.bashrc|\.bash_profile|\.bash_login|\.bash_logout|\.profile|\.zshrc|\.zshenv|\.zprofile|\.inputrc|\.vimrc|\.exrc|\.gdbinit|\.lldbinit|\.curlrc|\.wgetrc|\.tmux\.conf|\.screenrc|\.direnv|\.mcp\.json|\.claude|\.cursor|\.codex|sitecustomize\.py|usercustomize\.py|conftest\.py|.+\.pth|authorized_keys|crontab)$/i;

/** Whether a value is of a kind. A kind that is not known fits nothing. */
export function isOfKind(value: string, kind: string, kinds: Kinds, places: Places): boolean {
  switch (kind) {
    case "text":
      return true;
    case "word":
      return /^[A-Za-z0-9_.,:+@%=][A-Za-z0-9_.,:+@%=-]*$/.test(value);
    case "number":
      return /^[+-]?\d{1,18}(?:\.\d{1,9})?$/.test(value);
    case "readable":
      return value === "-" || isReadable(value, places);
    case "output":
      return /^(?:-|\/dev\/(?:null|stdout|stderr))$/.test(value) || isWritable(value, places);
    case "writable":
      return isWritable(value, places);
    default:
      return fitsPattern(value.normalize("NFC"), kind, kinds, places);
  }
}

/**
 * A pattern knows no places. What it lets through may be a file's name all the same (git and formatters take one where a
 * revision or a target may stand): so it does not climb out of the workspace, and names nothing that is guarded.
 */
function fitsPattern(value: string, kind: string, kinds: Kinds, places: Places): boolean {
  if (kinds.patterns.get(kind)?.matches(value) !== true) return false;
  if (kinds.notPaths.has(kind)) return true;
  const names = value.split(/[/:=]/);
  if (names.includes(".git") || !names.every(holdsNoKey)) return false;
  return !names.includes("..") || isReadable(value, places);
}

/** Whether a file of this name may be read: in the workspace, or where the profile says; never one that holds keys. */
export function isReadable(path: string, places: Places): boolean {
  const full = resolvePath(path, places);
  if (full === null) return false;
  if (isBelow(full, places.workspace)) return holdsNoKeys(full.slice(places.workspace.length));
  if (namesOf(full).some((name) => GUARDED_OUTSIDE.test(name))) return false;
  return holdsNoKeys(full) && places.readable.some((place) => isBelow(full, place));
}

/** Whether a file of this name may be written: in the workspace alone, and nothing that another program obeys. */
export function isWritable(path: string, places: Places): boolean {
  const full = resolvePath(path, places);
  if (full === null || !isBelow(full, places.workspace)) return false;
  const below = full.slice(places.workspace.length);
  return holdsNoKeys(below) && !namesOf(below).some((name) => OBEYED_NAMES.test(name));
}

/**
 * The absolute path that a name stands for, by its text alone: null where the text cannot tell. ".." after a name may lead
 * elsewhere, when the name is a link; at the beginning it does not, as long as `cwd` is a real path.
 */
export function resolvePath(path: string, places: Pick<Places, "cwd" | "moved">): string | null {
  if (path === "" || /^[@~:]|^-./.test(path) || path.includes("\n")) return null;
  if (/^[^/]*:/.test(path)) return null; // host:file, or a URL
  const names = path.split("/");
  if (places.moved && names.includes("..")) return null;
  const up = path.startsWith("/")
    ? 0
    : names.findIndex((name) => name !== ".." && name !== "." && name !== "");
  if (up !== -1 && names.slice(up).includes("..")) return null;
  const full = posix.resolve(places.cwd, path);
  return /^\/(?:proc|sys|dev)(?:\/|$)/.test(full) && !HARMLESS_KERNEL_FILES.has(full) ? null : full;
}

const HARMLESS_KERNEL_FILES: ReadonlySet<string> = new Set([
  "/dev/null",
  ..."cpuinfo diskstats filesystems interrupts loadavg mdstat meminfo modules mounts partitions stat swaps uptime version"
    .split(" ")
    .map((name) => `/proc/${name}`),
]);

/** Whether a plain absolute path is a place or within it. */
export function isBelow(path: string, place: string): boolean {
  return path === place || path.startsWith(place.endsWith("/") ? place : `${place}/`);
}

function holdsNoKeys(full: string): boolean {
  return namesOf(full).every(holdsNoKey);
}

function holdsNoKey(name: string): boolean {
  return !GUARDED_NAMES.test(name) || NO_SECRET_IN_IT.test(name);
}

function namesOf(full: string): readonly string[] {
  return full.normalize("NFC").split("/");
}
