import type { Caller, Evaluator, Found, SearchQuery } from "./core/access.ts";
import type { FileState } from "./core/fingerprint.ts";
import type { Flow } from "./core/flow.ts";
import type { OwnTable } from "./core/nft-tables.ts";
import type { HostNetwork } from "./core/preflight.ts";
import type { FileChange, Signal } from "./core/signal.ts";
import type { ChallengeEnd } from "./core/usb-challenge.ts";
import type { UsbFacts, UsbTarget } from "./core/usb-facts.ts";
import type { DescribedInterface } from "./core/usb-interfaces.ts";
import type { ProgramFile } from "./exec/judging.ts";
import type { Profile } from "./exec/profile.ts";
import type { RunOrder } from "./exec/run-order.ts";
import type { FromWorker, Sandbox } from "./exec/worker-frames.ts";

/** Time, three ways. Pure code never calls these; the loop passes the values in. */
export interface Clock {
  /** CLOCK_REALTIME, milliseconds since 1970. */
  wallMs(): number;
  /** CLOCK_MONOTONIC, nanoseconds: comparable between processes of one boot. */
  monoNs(): bigint;
  /** CLOCK_BOOTTIME, milliseconds since boot, counting suspend. */
  bootMs(): number;
  /** The kernel's boot id (/proc/sys/kernel/random/boot_id). */
  bootId(): string;
}

/** The log's open segment. One writer; the audit log calls `write` again only when the last call has settled. */
export interface LogStore {
  /**
   * Appends the bytes and syncs them (fdatasync). Resolves when they are durable; rejects when that is not
   * certain, after which the store must not be written again (a failed fsync may have dropped the pages).
   */
  write(chunk: Buffer): Promise<void>;
  /** What is wrong with the file underneath us, or null: replaced, truncated, grown by somebody else. */
  damage(): { what: "replaced" | "truncated" | "grown"; detail: string } | null;
  close(): void;
  /** The segment is complete: made immutable where that can be, and closed. Never throws: the bytes are on disk. */
  finish(): void;
}

/**
 * The log's keys. One signs; the one after it is there only while a rotation is under way. docs/LOG_FORMAT.md says how
 * one certifies the next.
 */
export interface KeyRing {
  /** The genesis key (vkey): all that a verifier has to know. */
  readonly genesis: string;
  /** The log's name: that of every key, and the checkpoints' origin. */
  readonly origin: string;
  /** The key that signs now. */
  current(): Signer;
  /** The key that a rotation has made and not yet taken up; null when there is none. */
  next(): Signer | null;
  /** Makes the next key, durable when it returns, in the place of one that an abandoned rotation left. */
  prepareNext(): Signer;
  /** The next key is the current one from here on; the old private key is erased, on disk and in memory. */
  promote(): void;
  /** Erases the next key of a rotation that never came to be. */
  discardNext(): void;
  /** What somebody else did to the current key's file, or null. */
  damage(): FileChange | null;
  /** For a new log in the place of one that was moved aside: the current key is its genesis key. */
  rebase(): void;
}

/** Holds the private key of the open segment. The key never leaves it. */
export interface Signer {
  /** C2SP verifier key: name+hex key id+base64(0x01 ‖ public key). */
  readonly vkey: string;
  /** Ed25519 over the message. */
  sign(message: Buffer): Buffer;
}

/** What the file system holds for a file of the log. */
export type Protection =
  | { readonly kind: "append-only" | "immutable" }
  | { readonly kind: "none"; readonly why: string };

/** Remembers the newest checkpoint outside the log, so that a cut tail is noticed. */
export interface HeadStore {
  /** Resolves when this note, or a newer one, is in place; rejects when it could not be written. */
  remember(note: string): Promise<void>;
}

/** The kernel's packet filter, as far as our tables go. Calls are synchronous: a transaction takes well under a millisecond. */
export interface Firewall {
  /** Which way in: the library in this process, or the nft program. */
  readonly via: "libnftables" | "nft";
  /** Runs an nft script as one transaction. Throws BoundaryError("nft-failed") and then nothing of it took effect. */
  run(script: string): void;
  /** Every table of that name (without one: boundary) in the families inet, arp and netdev, one after the other; "" when there is none. */
  list(name?: OwnTable): string;
  /**
   * The kernel's count of the transactions that changed rules in this network namespace, ours or anybody's: while it is
   * the same, no transaction has changed anything. null: not to be had.
   */
  generation(): number | null;
}

/** What rules name besides addresses, as it is at this moment. Each may throw, and then nothing is known. */
export interface Surroundings {
  /** Every link of our network namespace, loopback among them. */
  links(): readonly string[];
  /** The kernel's number of a link: another link that took its name has another one. 0: there is none. */
  linkNumber(name: string): number;
  /** Something that tells a cgroup (v2, path below /sys/fs/cgroup) from a later one of that path; null: there is none. */
  cgroup(path: string): string | null;
  /** Whether cgroup v2 is where nft looks for it. */
  hasCgroups(): boolean;
}

/** A plugged-in device: where, and the number that the kernel counts up, so that it is no other one. */
export type UsbPlace = { readonly port: string; readonly number: string };

/** Has a person type a code on a new keyboard before the host gets it. */
export interface KeyboardChallenge {
  /**
   * Authorises the device, no driver for it, and listens to it alone. However it ends, the device is not authorised any
   * more: one that has passed is let in as any other is. Rejects with BoundaryError("usb-challenge-failed") when the keyboard cannot be kept from the host meanwhile.
   */
  run(
    place: UsbPlace,
    asked: { readonly code: string; readonly timeoutMs: number; readonly maxPerSecond: number },
  ): Promise<ChallengeEnd | { readonly kind: "gone"; readonly why: string }>;
}

/** What the kernel holds of one device or root hub. null: it does not say. */
export type UsbState = {
  readonly port: string;
  /** The kernel counts it up, and begins anew after 127. "" when it cannot be read. */
  readonly number: string;
  /** Of its directory in sysfs: in one boot another plugging-in has another one. */
  readonly instance: string;
  readonly authorized: boolean | null;
  /** Those that are there: of a device that is not authorised, none. `driver`: "" when none is bound. */
  readonly interfaces: readonly {
    readonly name: string;
    readonly authorized: boolean | null;
    readonly driver: string;
  }[];
  /** Of a root hub: what is done with new devices and new interfaces on its bus; null for any other device. */
  readonly defaults: { readonly device: string; readonly interface: string } | null;
};

/** The same with everything the rules ask for. */
export type UsbLook = UsbState & {
  readonly facts: UsbFacts;
  readonly described: readonly DescribedInterface[];
  /** Why it cannot be understood; null when it can. */
  readonly problem: string | null;
  /** SHA-256 of its descriptors, hex: with `number`, what a write is for. */
  readonly print: string;
};

/** What is to be authorised: `interfaces` are the names of those that are, all others are not. */
export type UsbOrder = { readonly device: UsbTarget; readonly interfaces: "all" | ReadonlySet<string> };

/** The kernel's authorisation of USB devices, in sysfs. Synchronous. Every write is read back. */
export interface UsbGate {
  /** Everything on the buses. Throws BoundaryError("usb-failed"); [] where the kernel has no USB. */
  list(): readonly UsbLook[];
  /** The same without the facts: cheap enough for every second. Throws as `list` does. */
  glance(): readonly UsbState[];
  /**
   * Whether new devices and new interfaces on a root hub's bus are authorised: "closed" is no. Throws
   * BoundaryError("usb-failed").
   */
  setDefaults(port: string, to: "closed" | "open"): void;
  /**
   * Brings a device to what is ordered: takes away first, gives then, an interface at a time. Throws
   * BoundaryError("usb-failed") when it is not (any more) the device that was looked at, or when the kernel says
   * something else than what was written. What was taken away by then stays so.
   */
  set(look: UsbLook, order: UsbOrder): void;
}

/** The permanent USB rules of this host's people. Their digest is in the signed log, which decides. */
export interface UsbRulesStore {
  readonly path: string;
  /** The text that `isSigned` says yes to; a replacement that a crash cut off is finished. */
  load(
    isSigned: (text: string) => boolean,
  ):
    | { readonly kind: "missing" }
    | { readonly kind: "rules"; readonly text: string }
    | { readonly kind: "unreadable"; readonly why: string };
  /** Writes it durably beside the present one. Throws BoundaryError("state-unwritable"). */
  prepare(text: string): void;
  /** What was prepared takes the present one's place: once the log has signed it. Throws BoundaryError("state-unwritable"). */
  commit(): void;
}

/**
 * Wraps the keys of secrets (DEKs) under a key of its own (KEK). A KMS, a token or a TPM can stand behind it: the KEK
 * itself is asked of nobody. What it rejects with is a BoundaryError.
 */
export interface KekProvider {
  /** Names the KEK. A wrapped key stands beside it. */
  readonly id: string;
  wrap(dek: Uint8Array): Promise<Buffer>;
  /** The DEK, for the caller to wipe. Rejects with "secret-damaged" when it was not wrapped here. */
  unwrap(wrapped: Uint8Array): Promise<Buffer>;
  /** Synchronous: forgets the KEK, or the session with whoever has it, and refuses everything from then on. */
  drop(): void;
}

/** One way to keep KEKs. `spec` is what it needs to find one again; it stands in the keyring, so nothing in it is secret. */
export interface KekSource {
  /** As the keyring names it. */
  readonly kind: string;
  /** Whether a person has to give something: a passphrase, or the PIN of a token. */
  readonly asks: boolean;
  /** Why it cannot be used on this host; "" when it can. */
  obstacle(): string;
  /** Makes a KEK, durable when it resolves. The caller wipes the passphrase. */
  create(id: string, passphrase: Buffer | null): Promise<{ provider: KekProvider; spec: string }>;
  /** Rejects with "vault-passphrase-wrong", or "kek-unavailable". Another `spec` than the one given takes its place. */
  open(id: string, spec: string, passphrase: Buffer | null): Promise<{ provider: KekProvider; spec: string }>;
  /** Nothing is wrapped under this one any more. Its provider is dropped after that, where there is one. */
  retire(id: string): Promise<void>;
}

/** One file of a workspace: its bytes, or why they were not read. */
export type VaultFile = { readonly name: string } & (
  | { readonly bytes: Buffer }
  | { readonly bytes: null; readonly why: string }
);

/**
 * The vault's files, below the state directory: a directory a workspace, 0700 and 0600, nobody's but ours. Synchronous,
 * and durable when it returns. Throws BoundaryError "vault-unsafe" (owner, permissions), "state-unwritable".
 */
export interface VaultFiles {
  /** Every workspace with its files, after what a crash left half-written was erased. */
  load(): readonly { readonly workspace: string; readonly files: readonly VaultFile[] }[];
  read(workspace: string, name: string): VaultFile;
  /** Takes the place of a file at once, or not at all. */
  replace(workspace: string, name: string, bytes: Uint8Array): void;
  /** Writes a file that has its name only when `commit` gives it: once the log has the record. */
  prepare(workspace: string, name: string, bytes: Uint8Array): void;
  commit(workspace: string, name: string): void;
  /** Erases it, prepared or not; nothing when there is none. */
  erase(workspace: string, name: string): void;
}

/** A file that only root and we can read, and that is not kept over a boot: what strongSwan loads. */
export interface ExportFile {
  readonly path: string;
  /** Throws BoundaryError("state-unwritable"). */
  write(bytes: Uint8Array): void;
  /** Overwrites and removes it; nothing when there is none. */
  erase(): void;
}

/** What the host says of what a command is about. None of it throws. */
export interface ExecHost {
  /** Absolute, behind all links; null where there is no such directory that we can see. */
  directory(path: string): Promise<string | null>;
  /** Looks programs up as the worker will: by the profile's searchPath. A digest only where the profile lists one. */
  programs(profile: Profile): (name: string, cwd: string) => ProgramFile | null;
  /** SHA-256 of a program's file, hex; null when it cannot be read. */
  digest(path: string): Promise<string | null>;
  /** A regular file, links followed; one that is not in one of these places then counts as none. */
  read(
    path: string,
    within: { readonly mostBytes: number; readonly places: readonly string[] },
  ): Promise<
    | { readonly kind: "bytes"; readonly bytes: Buffer }
    /** No file, one that is no regular file, one that is larger, one that we may not read. */
    | { readonly kind: "none" | "large" | "unreadable" }
  >;
}

export type WorkerState =
  | { readonly kind: "ready"; readonly sandbox: Sandbox }
  | { readonly kind: "absent"; readonly why: string };
/** What the worker says; "gone": the connection to it ended, and with it all that it ran. */
export type WorkerEvent = FromWorker | { readonly kind: "gone"; readonly why: string };

/** Who runs commands: a process of its own, that decides nothing. It may say anything of runs that are over, or never were. */
export interface ExecWorker {
  /** Connects, and keeps connected; every event comes in order. */
  start(listen: (event: WorkerEvent) => void): void;
  state(): WorkerState;
  /** Signs the order and sends it. False: nobody is there to take it, or it is none that a worker reads. */
  run(order: RunOrder, stdin: Buffer): boolean;
  /** Has a run ended. It is over when `ended` comes. */
  end(id: string, why: string): void;
  /** Ends the connection, and so everything that runs. */
  drop(why: string): void;
  /** For good. */
  stop(): void;
}

/** A run that may have a way out. */
export type EgressWish = {
  readonly id: string;
  readonly uid: number;
  readonly profile: string;
  readonly workspace: string;
  /** What whoever has it run holds it to, beside the configuration's lists; null: nothing more. */
  readonly hosts: readonly string[] | null;
  /** `network.connect` for the run's subject; what it allows is on record when it resolves. */
  readonly policy: (host: string, port: number) => Promise<{ allow: boolean; why: string; seq: number }>;
};

export type EgressState =
  | { readonly kind: "ready"; readonly runs: number }
  | { readonly kind: "absent"; readonly why: string };

/**
 * The way out for commands: for each run a proxy's socket that lets through what that run may reach, and nobody else uses.
 * A process of its own has it, that decides nothing.
 */
export interface EgressDoor {
  /** Connects, and keeps connected. */
  start(): void;
  state(): EgressState;
  /**
   * `path`: of the socket, which is there when it resolves. Rejects with BoundaryError "exec-unavailable" where there is
   * nobody to open it, "egress-ended" where it was ended meanwhile.
   */
  open(run: EgressWish): Promise<{ readonly path: string; readonly end: (why: string) => Promise<void> }>;
  /** The mode takes the network away: from this turn on nothing is allowed or opened, in no run there is. */
  endAll(why: string): void;
  /** For good: every run's end is recorded when it returns. */
  stop(): void;
}

/** What a sensor can say of itself. "absent": this host has nothing to see (no USB), which is no fault. */
export type SensorHealth =
  | { readonly state: "watching"; readonly via: string }
  | { readonly state: "blind"; readonly why: string }
  | { readonly state: "absent"; readonly why: string };

/** A sensor. It reports what it saw, never decides; when it cannot see it says so with a `sensor.blind` signal and restarts itself with back-off. */
export interface SignalSource {
  readonly name: "files" | "network" | "usb" | "keys" | "rules" | "clock";
  /** Resolves once it is really watching (or has reported itself blind or absent). */
  start(emit: (signal: Signal) => void): Promise<void>;
  stop(): Promise<void>;
  health(): SensorHealth;
}

/** The service manager. Every call is a no-op where there is none. */
export interface Notifier {
  ready(): void;
  watchdog(): void;
  stopping(): void;
  status(text: string): void;
}

/** Who is on the other end of a connection, as the kernel says (SO_PEERCRED, SO_PEERGROUPS). Made once, at accept. */
export type Peer = {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** All groups at the time of connect, gid included. */
  readonly groups: readonly number[];
};

/** Where a socket goes. It is bound beside its place and published when its group and mode are right. */
export type SocketPlace = { readonly bindPath: string; publish(): void; withdraw(): void };

/** What decide.sock needs of the daemon. */
export interface DecisionService {
  /**
   * The id of the token with this text (in constant time); null when there is none, which is 401. Whether it is live
   * is the evaluator's to say, and the search's. `text`: what came after "Bearer "; null when nothing did.
   */
  identify(text: string | null, peer: Peer): string | null;
  readonly evaluator: Evaluator;
  /** At most `limit` of those after `after`, which is the `next` of a page before. Decides without deciding: nothing found is a promise. */
  search(
    caller: Caller,
    query: SearchQuery,
    page: { readonly after: string | null; readonly limit: number },
  ): Promise<Found>;
}

/** Of a request over HTTP, what comes before its body. Each header: null when it is not there. */
export type HttpHead = {
  readonly method: string;
  /** As it was sent. */
  readonly target: string;
  readonly authorization: string | null;
  readonly contentType: string | null;
  readonly contentEncoding: string | null;
};
export type HttpAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: object;
};
/** What is asked over HTTP. An answer without the body, or what gives one with it; neither throws or rejects. */
export type HttpEndpoints = (
  head: HttpHead,
  peer: Peer,
) => HttpAnswer | ((body: Buffer) => Promise<HttpAnswer>);

/** One connection of the control socket, seen from the loop's side. */
export interface Connection {
  readonly peer: Peer;
  /** Sends one frame; false when the peer is gone or too slow (and has been dropped). */
  send(message: object): boolean;
  onClose(then: () => void): void;
}

/** Evidence about a peer process, read when it is needed. */
export interface PeerFacts {
  /** The controlling terminal of a process ("pts/3"), or null when it has none or is gone. */
  terminalOf(pid: number): string | null;
  /** Login name, or the number as text. */
  userName(uid: number): string;
}

/** What procfs says of this host, read when it is asked. What cannot be read is empty: nothing is known of it then. */
export interface HostSockets {
  /** Sockets and addresses of our own network namespace. */
  network(): HostNetwork;
  /** Its established TCP connections. */
  flows(): readonly Flow[];
  /** The kernel's command line. */
  commandLine(): string;
}

/** Diagnostics for the operator (stderr, journald). Never the audit log. */
export interface OpLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What the running file sensor knows. Every change of a state in it has been signalled before it got there. */
export type FileMemory = {
  readonly states: readonly FileState[];
  /** Paths at which something is under way: their states are not to be relied on. */
  readonly unsettled: ReadonlySet<string>;
};

/** Where the accepted states of the watched files are kept. Their digest is in the signed log, which decides. */
export interface BaselineStore {
  readonly path: string;
  /** The states that `isSigned` says yes to, of what is there; a replacement that a crash cut off is finished. */
  load(
    isSigned: (states: readonly FileState[]) => boolean,
  ):
    | { readonly kind: "missing" }
    | { readonly kind: "states"; readonly states: readonly FileState[] }
    | { readonly kind: "unreadable"; readonly why: string };
  /**
   * Writes them durably beside the present ones, which stay. From then on either can be loaded, whichever the log
   * signs. One at a time. Rejects with BoundaryError("state-unwritable"), and then the present ones stand alone.
   */
  prepare(states: readonly FileState[]): Promise<PreparedBaseline>;
}

export type PreparedBaseline = {
  /** Replaces the present states: only once the log has signed the new ones. Rejects with BoundaryError("state-unwritable"); they can be loaded all the same. */
  commit(): Promise<void>;
};

/** Sends one datagram, and says what became of it. "refused": our kernel's packet filter dropped it. */
export type CanarySender = (to: { readonly address: string; readonly port: number }) => Promise<
  | { readonly kind: "refused" }
  | { readonly kind: "sent" }
  /** For another reason than the filter: no route, no such family. */
  | { readonly kind: "not-sent"; readonly why: string }
>;

/** A file that is there only to be touched. */
export type CanaryFile = {
  readonly path: string;
  /** Sets its times. Throws the system's error. */
  touch(): void;
};

/** What is asked of Cedar's process. */
export type CedarOrder =
  /** The files of a policy directory, and the registry's: everything up to the cases. */
  | {
      readonly kind: "read";
      readonly files: readonly { readonly name: string; readonly bytes: Uint8Array }[];
      readonly entities: { readonly path: string; readonly text: string } | null;
    }
  /** What the questions that follow are about; policies by id. */
  | { readonly kind: "load"; readonly schema: string; readonly policies: Readonly<Record<string, string>> }
  /** A list of questions, as JSON text; the answers in their order. */
  | { readonly kind: "judge"; readonly questions: string };

/** A text that is kept from start to start. Whoever loads it has to know what it is worth. */
export interface KeptPolicies {
  /** null where there is none, or none that can be read. */
  load(): string | null;
  /** Whole or not at all. Throws BoundaryError("state-unwritable"). */
  save(text: string): void;
}

/** Cedar itself, in a process that dies of what it is given and takes nothing with it. One order at a time. */
export interface CedarProcess {
  /**
   * The answer as JSON text. Rejects BoundaryError("policy-trapped") when the process died of it or the deadline passed,
   * "policy-crashed" when a signal ended it, and "policy-invalid" for what Cedar does not take; after the first two of these
   * every order rejects.
   */
  ask(order: CedarOrder): Promise<string>;
  /** Ends the process at once. */
  end(): void;
}
