import { z } from "zod";
import { ACTIONS } from "./access.ts";
import { BoundaryError } from "./errors.ts";
import { parseResource } from "./grant-data.ts";
import { type Isolation, type IsolationInput, readIsolation } from "./isolation.ts";
import { LEASE_MODES, type LeaseTemplate } from "./lease.ts";
import { MODES, type Mode } from "./mode.ts";
import { PROTOCOL_NAMES, readEntry } from "./net-entry.ts";
import { SIGNAL_FACTS, SIGNAL_KINDS, type SignalKind } from "./signal.ts";
import type { Matcher, Tripwire } from "./tripwire.ts";

/**
 * The configuration: the schema is the documentation of every field, its unit and its limits.
 * Unknown keys are refused. Everything has a default, so that an absent file is a valid configuration.
 */
const Name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, "use lower case letters, digits and dashes, 64 at most");
const Account = z.union([
  z.string().regex(/^[a-z_][a-z0-9_.-]{0,31}$/i),
  z.number().int().min(0).max(4_294_967_294),
]);
const AbsolutePath = z.string().max(4096).startsWith("/", "give an absolute path");
const InterfaceName = z
  .string()
  .regex(/^[A-Za-z0-9_.@:-]{1,15}$/, "a network interface name has 1 to 15 plain characters");
const Cidr = z.union([z.ipv4(), z.cidrv4(), z.ipv6(), z.cidrv6()]);
/** What network.deny and network.allow list. */
const NetEntrySchema = z.union(
  [
    Cidr,
    z
      .strictObject({
        /** The far end: an address or a network. */
        address: Cidr.optional(),
        /** The destination's: a number, or "a-b". */
        port: z.union([z.number().int(), z.string().max(11)]).optional(),
        protocol: z.enum(PROTOCOL_NAMES).optional(),
        /** By which it comes in or leaves. */
        interface: InterfaceName.optional(),
        /** Whose socket sends it: of what leaves only. */
        uid: z.number().int().min(0).max(4_294_967_294).optional(),
        /** The cgroup (v2, a path below /sys/fs/cgroup) whose socket sends it, or one below: of what leaves only. */
        cgroup: z.string().max(255).optional(),
        direction: z.enum(["in", "out"]).optional(),
      })
      .superRefine((entry, context) => {
        const read = readEntry(entry);
        if (typeof read === "string") context.addIssue({ code: "custom", message: read });
      }),
  ],
  { error: (issue) => whyNoEntry(issue.input) },
);
const Port = z.number().int().min(1).max(65_535);
/** Hosts, as daemon/egress/allowlist.ts reads them. */
export const HostList = z.array(z.string().min(1).max(300)).max(1024);
/** As the worker says what it has (ports.ts, Sandbox). */
export const SANDBOX_PARTS = ["namespaces", "seccomp", "cgroup", "readOnlyRoot"] as const;
/** What a token pads with blanks: so none at its end. */
const TokenText = (most: number) =>
  z
    .string()
    .max(most)
    .regex(/^[!-~](?:[ -~]*[!-~])?$/, "use printable ASCII, without a blank at either end");
const UsbIds = /^[0-9a-f]{4}:(?:[0-9a-f]{4}|\*)$/;
const ModeName = z.enum(MODES);
const Ms = (least: number, most: number, usual: number) =>
  z.number().int().min(least).max(most).default(usual);

/** So many requests in any window; whoever asks for more gets nothing for `blockMs`. 0 requests: no limit. */
const RateFields = (requests: number, blockMs: number) => ({
  requests: z.number().int().min(0).max(1_000_000_000).default(requests),
  windowMs: Ms(1_000, 3_600_000, 60_000),
  blockMs: Ms(0, 86_400_000, blockMs),
});
const RateSchema = (requests: number, blockMs: number) =>
  z.strictObject(RateFields(requests, blockMs)).prefault({});
const ServiceSchema = z
  .strictObject({
    ...RateFields(0, 0),
    tokenLabel: z.string().min(1).max(64).optional(),
    uid: z.number().int().min(0).max(4_294_967_294).optional(),
  })
  .refine(({ tokenLabel, uid }) => (tokenLabel === undefined) !== (uid === undefined), {
    message: "name the service by its token's label or by its uid: one of the two",
    path: ["uid"],
  });

const Accounts = z.strictObject({
  users: z.array(Account).max(64).default([]),
  groups: z.array(Account).max(64).default([]),
});

const FactValue = z.string().max(4096);
const FactMatcher = z.union([
  FactValue,
  z.array(FactValue).min(1, "an empty list would match nothing, or everything: name the values").max(64),
  z.strictObject({ not: z.array(FactValue).min(1).max(64) }),
]);

export const TripwireSchema = z
  .strictObject({
    id: Name,
    on: z.enum(SIGNAL_KINDS as [SignalKind, ...SignalKind[]]),
    match: z.record(z.string(), FactMatcher).default({}),
    armed: z.array(ModeName).min(1, "name at least one mode").max(6),
    action: z.union([z.literal("note"), z.strictObject({ trip: ModeName })]),
    whenBlind: z.enum(["trip", "degrade"]).default("degrade"),
    acrossStop: z.enum(["trip", "note"]).default("trip"),
  })
  .superRefine((wire, context) => {
    const known: readonly string[] = SIGNAL_FACTS[wire.on];
    for (const name of Object.keys(wire.match)) {
      if (known.includes(name)) continue;
      context.addIssue({
        code: "custom",
        path: ["match", name],
        message: `${wire.on} has no fact "${name}"; it has: ${known.join(", ")}`,
      });
    }
    if (wire.on === "file.changed" && !("path" in wire.match)) {
      context.addIssue({ code: "custom", path: ["match"], message: "name the paths to watch: match.path" });
    }
    const paths = wire.on === "file.changed" ? toMatcher(wire.match["path"] ?? []) : null;
    if (paths?.negate) {
      context.addIssue({
        code: "custom",
        path: ["match", "path"],
        message: "a path to watch cannot be a negation",
      });
    }
    for (const path of paths?.values ?? []) {
      if (path.startsWith("/") && !path.includes("//") && !/\/\.\.?(\/|$)/.test(path)) continue;
      context.addIssue({
        code: "custom",
        path: ["match", "path"],
        message: `${JSON.stringify(path)} is not a plain absolute path`,
      });
    }
  });

export const TripwiresSchema = z
  .strictObject({ tripwires: z.array(TripwireSchema).max(256) })
  .superRefine((file, context) => {
    const seen = new Set<string>();
    file.tripwires.forEach((wire, index) => {
      if (seen.has(wire.id)) {
        context.addIssue({
          code: "custom",
          path: ["tripwires", index, "id"],
          message: `the id ${wire.id} is used twice`,
        });
      }
      seen.add(wire.id);
    });
  });

/** Where guarded commands may connect to. docs/EGRESS.md. Without any list: nowhere. */
export const EgressSchema = z.strictObject({
  /** What every run is held to. A list that is not there does not restrict; an empty one allows nothing. */
  allow: HostList.optional(),
  /** By the name of a project, of a blueprint: what is not named has an empty list, where there are lists. */
  projects: z.record(Name, HostList).optional(),
  blueprints: z.record(Name, HostList).optional(),
  /** Addresses that are not public, and that a listed name may come to all the same. */
  addresses: z.array(Cidr).max(64).default([]),
  /** Ports of the lists where CONNECT may lead to something else than TLS. */
  plainPorts: z.array(Port).max(32).default([]),
  /** DNS servers, "ADDRESS", "ADDRESS:PORT" or "[ADDRESS]:PORT"; without them the system's. */
  resolvers: z
    .array(z.string().regex(/^(?:[0-9.]+(?::\d{1,5})?|[0-9a-f:.]+|\[[0-9a-f:.]+\]:\d{1,5})$/i))
    .max(8)
    .default([]),
  limits: z
    .strictObject({
      /** Of one run: at a time, and in all. */
      connections: z.number().int().min(1).max(1_024).default(64),
      connectionsInAll: z.number().int().min(1).max(1_000_000).default(4_096),
      /** A request's head, a ClientHello. */
      headMs: Ms(100, 60_000, 5_000),
      resolveMs: Ms(100, 60_000, 5_000),
      connectMs: Ms(100, 60_000, 10_000),
      /** A connection on which nothing passes, either way. */
      idleMs: Ms(100, 3_600_000, 60_000),
      /** Of one run, both ways. Without it: no limit. */
      totalBytes: z.number().int().min(0).max(1_099_511_627_776).nullable().default(null),
    })
    .prefault({}),
});

export const ConfigSchema = z.strictObject({
  /** The mode of a first start, when there is no log yet. */
  initialMode: ModeName.default("RESTRICTED"),
  enforcement: z
    .strictObject({
      /** Off by default (B7); BOUNDARY_NETWORK_ENFORCE=1 or =0 in the environment decides over these. */
      network: z.boolean().default(false),
      usb: z.boolean().default(false),
      process: z.boolean().default(false),
      /** Allow rules in the initial network namespace: the host's own. */
      allowInitNetns: z.boolean().default(false),
      /** Without a heartbeat for this long the kernel closes by itself. */
      deadManMs: Ms(500, 60_000, 2_000),
      heartbeatMs: Ms(50, 20_000, 500),
      /** The hold of a first start. "shadow": nothing is refused until somebody says `boundaryctl enforce`. */
      firstStart: z.enum(["enforce", "shadow"]).default("enforce"),
    })
    .refine((e) => e.heartbeatMs * 2 <= e.deadManMs, {
      message: "must be at most half of deadManMs, or one late heartbeat closes the host",
      path: ["heartbeatMs"],
    })
    .prefault({}),
  network: z
    .strictObject({
      /** Interfaces that TRUSTED lets pass (a VPN). */
      trustedInterfaces: z.array(InterfaceName).max(32).default([]),
      /** What RESTRICTED and TRUSTED refuse. An address or a network alone: both directions. Wins over `allow`. */
      deny: z.array(NetEntrySchema).max(1024).default([]),
      /** What TRUSTED lets pass beside its trusted interfaces, with the answers to it. */
      allow: z.array(NetEntrySchema).max(256).default([]),
    })
    .prefault({}),
  /** Domains behind this host's interfaces, and what passes between them. docs/ISOLATION.md. Without it: none. */
  isolation: z
    .strictObject({
      domains: z
        .array(
          z.strictObject({
            name: z.string().max(64),
            /** Those that are its, and no others. */
            interfaces: z.array(z.string().max(64)).max(32).default([]),
            /** This host itself is of it. */
            host: z.boolean().default(false),
            /** Its packets are not looked at. */
            unaffected: z.boolean().default(false),
          }),
        )
        .min(1, "name the domains")
        .max(16),
      /** What passes between two domains; nothing else does. */
      passes: z
        .array(
          z.strictObject({
            /** Both ways. */
            between: z.array(z.string().max(64)).max(2).optional(),
            /** One way, and the answers. */
            from: z.string().max(64).optional(),
            to: z.string().max(64).optional(),
            protocol: z.enum(PROTOCOL_NAMES),
            /** The destination's: a number, or "a-b". */
            port: z.union([z.number().int(), z.string().max(11)]).optional(),
          }),
        )
        .max(256)
        .default([]),
    })
    .superRefine((input, context) => {
      const read = readIsolation(input);
      if (read.ok) return;
      for (const { path, problem } of read.problems)
        context.addIssue({ code: "custom", path: [...path], message: problem });
    })
    .optional(),
  usb: z
    .strictObject({
      /** A new keyboard is let in when a code was typed on it (`usb.challenge`), or a person allows it. */
      challengeKeyboards: z.boolean().default(false),
      /** When keys count as injected. */
      keystrokes: z
        .strictObject({
          /** Key-downs a second, over 20 of them: people's records are 25. */
          maxPerSecond: z.number().int().min(30).max(500).default(40),
          /** Devices that type by themselves and are meant to: "1050:0407", or a whole vendor, "1050:*". */
          exempt: z.array(z.string().regex(UsbIds, 'write "1050:0407" or "1050:*"')).max(64).default([]),
        })
        .prefault({}),
      /** Rules for USB devices, in USBGuard's language; without it the shipped ones (policies/usb.rules). */
      rulesFile: AbsolutePath.optional(),
    })
    .prefault({}),
  policy: z
    .strictObject({
      /** Cedar policies with their schema and cases; without it the shipped ones (policies/). */
      directory: AbsolutePath.optional(),
      /** Who and what is known, with groups, workspaces and attributes. */
      entitiesFile: AbsolutePath.optional(),
      /** One in so many answers is held against Cedar's own. */
      refereeEvery: z.number().int().min(1).max(1_000_000).default(100),
    })
    .prefault({}),
  ceremony: z
    .strictObject({
      coolDownMs: Ms(0, 86_400_000, 30_000),
      /** How long after the cool-down the code is good. */
      lifeMs: Ms(1_000, 86_400_000, 600_000),
      people: z.union([z.literal(1), z.literal(2)]).default(1),
      requireTerminal: z.boolean().default(true),
    })
    .prefault({}),
  clock: z
    .strictObject({ maxStepMs: Ms(100, 86_400_000, 5_000), maxDriftMs: Ms(1_000, 86_400_000, 300_000) })
    .prefault({}),
  /** Who may ask what. root and the daemon's own user are admin always. A role includes the ones below it. */
  roles: z
    .strictObject({
      admin: Accounts.prefault({}),
      operator: Accounts.prefault({ groups: ["boundary"] }),
      readonly: Accounts.prefault({}),
      /** May read the audit stream and the log's key and head, and nothing else. Not above or below the others. */
      auditor: Accounts.prefault({}),
    })
    .prefault({}),
  socket: z
    .strictObject({
      /** Whose members may connect; it gives no role. Without it, the first group of a role. */
      group: Account.optional(),
    })
    .prefault({}),
  decide: z
    .strictObject({
      /** What decide.sock calls itself in its metadata: an https URL that ends with its host or port. */
      identifier: z
        .string()
        .max(256)
        .regex(/^https:\/\/[A-Za-z0-9.-]+(?::[0-9]{1,5})?$/, 'write "https://HOST" or "https://HOST:PORT"')
        .default("https://localhost"),
    })
    .prefault({}),
  sensors: z
    .strictObject({
      /** Every watched file is hashed again this often, whatever events came. */
      rehashMs: Ms(1_000, 86_400_000, 60_000),
      /** All links, addresses and routes are listed anew this often, whatever events came. */
      relistMs: Ms(1_000, 86_400_000, 60_000),
      /** The inventory of the host, for people, is taken this often: it costs some 70 ms of CPU each time. */
      inventoryMs: Ms(10_000, 86_400_000, 300_000),
      /** Repeats of one cause within this time are counted, not recorded each. */
      repeatWindowMs: Ms(1_000, 86_400_000, 60_000),
    })
    .prefault({}),
  limits: z
    .strictObject({
      maxConnections: z.number().int().min(1).max(10_000).default(256),
      maxConnectionsPerUid: z.number().int().min(1).max(10_000).default(128),
      maxPendingRequests: z.number().int().min(1).max(10_000).default(64),
      frameTimeoutMs: Ms(100, 60_000, 5_000),
      /** By token; the tokens that were narrowed from one count as that one. */
      token: RateSchema(100, 300_000),
      /** By user, with all his tokens. Below `overall`, so that one user does not keep the others out. */
      uid: RateSchema(500, 300_000),
      /** All together. */
      overall: RateSchema(1_000, 0),
      /** What loosens: changes of the mode, ceremonies. What tightens is never limited. */
      loosening: RateSchema(10, 0),
      /** For one verb, of one caller. */
      verbs: z
        .record(z.string().regex(/^[a-z]+(\.[a-z]+)?$/), z.strictObject(RateFields(100, 0)))
        .default({}),
      /** Who asks more often than others: counts against his row alone. The first row that fits. */
      services: z.array(ServiceSchema).max(64).default([]),
      /** So many denials of one caller within the window are a `peer.probing`. 0: nobody is watched for it. */
      probing: z
        .strictObject({
          denials: z.number().int().min(0).max(1_000_000).default(30),
          windowMs: Ms(1_000, 3_600_000, 60_000),
          /** Beside what the tripwires say. */
          action: z.union([z.literal("note"), z.strictObject({ trip: ModeName })]).default("note"),
        })
        .prefault({}),
    })
    .prefault({}),
  /** What a person has to approve. */
  approvals: z
    .strictObject({
      /** How long a question waits for its answer; then it is denied. */
      lifeMs: Ms(1_000, 86_400_000, 600_000),
      /** How long what was approved can be used, once. */
      useMs: Ms(1_000, 86_400_000, 300_000),
      /** Questions that wait, or were denied less than `lifeMs` ago: of all, and of one user. */
      maxPending: z.number().int().min(1).max(16).default(12),
      maxPerCaller: z.number().int().min(1).max(16).default(4),
    })
    .prefault({}),
  log: z
    .strictObject({
      /** A quiet log is sealed at least this often. */
      sealEveryMs: Ms(1_000, 60_000, 60_000),
      /** A segment of this size ends, and its key with it. Bytes. */
      segmentBytes: z.number().int().min(4_096).max(1_073_741_824).default(67_108_864),
      /** A segment this old ends, and its key with it. */
      segmentAgeMs: Ms(1_000, 2_678_400_000, 86_400_000),
      /** The open segment append-only (chattr +a), ended ones immutable (+i), where file system and privilege allow. */
      appendOnly: z.boolean().default(true),
      /** With less free than this on the log's file system nothing is allowed and nothing loosened. */
      lowWaterBytes: z.number().int().min(0).max(1_099_511_627_776).default(67_108_864),
      /** Room on the disk that only the log's records can take. */
      reserveBytes: z.number().int().min(0).max(1_073_741_824).default(4_194_304),
    })
    .prefault({}),
  vault: z
    .strictObject({
      /** An unlocked workspace locks itself after this time, used or not. */
      autoLockMs: Ms(1_000, 86_400_000, 900_000),
      /** Where keys of the kind "file" are: 0700, better not on the disk of the vault. Without it, in the state directory. */
      keyDirectory: AbsolutePath.optional(),
      /** A token for keys of the kind "pkcs11". */
      pkcs11: z
        .strictObject({
          /** The PKCS#11 library: root's or ours, it and the directories above it writable by nobody else. */
          module: AbsolutePath,
          tokenLabel: TokenText(32),
          /** What stands before a KEK's id in the label of its key. */
          keyLabel: TokenText(64).optional(),
          /** The PIN (0600, the daemon's own file). Without it a person gives it at each unlock. */
          pinFile: AbsolutePath.optional(),
        })
        .optional(),
    })
    .prefault({}),
  tokens: z
    .strictObject({
      /** A token that ends within this time is a `token.expiring` record, once, where it was made for more than twice as long. */
      warnMs: Ms(60_000, 2_678_400_000, 604_800_000),
    })
    .prefault({}),
  /** Exceptions that may be asked for (`lease.request`); what one allows is for policy to say. */
  leases: z
    .array(
      z.strictObject({
        name: Name,
        /** What it is for. It is live for these questions alone; without them for all. */
        actions: z.array(z.enum(ACTIONS)).min(1).max(32).optional(),
        /** "TYPE::ID"; an id may end in "*". */
        resources: z
          .array(
            z
              .string()
              .refine((text) => parseResource(text) !== null, 'write "TYPE::ID", or "TYPE::BEGINNING*"'),
          )
          .min(1)
          .max(32)
          .optional(),
        /** The strictest mode that it works in. */
        maxMode: z.enum(LEASE_MODES as [Mode, ...Mode[]]).default("RESTRICTED"),
        /** The longest it is given for, from the approval on. */
        maxMs: Ms(1_000, 2_678_400_000, 900_000),
        /** For how many allowed answers. */
        maxUses: z.number().int().min(1).max(1_000_000).optional(),
        /** person: somebody else approves it. policy: it is given at once. */
        needs: z.enum(["person", "policy"]).default("person"),
      }),
    )
    .max(64)
    .superRefine((list, context) => {
      const names = list.map(({ name }) => name);
      for (const [index, name] of names.entries()) {
        if (names.indexOf(name) !== index)
          context.addIssue({
            code: "custom",
            path: [index, "name"],
            message: `the name ${name} is used twice`,
          });
      }
    })
    .default([]),
  selftest: z
    .strictObject({
      /** Every claim of `status` that can be tried out is tried out this often. */
      everyMs: Ms(10_000, 86_400_000, 900_000),
    })
    .prefault({}),
  exec: z
    .strictObject({
      /** A file of exec profiles; without it the shipped one (policies/exec.yaml) is meant. */
      profilesFile: AbsolutePath.optional(),
      /** Directories that are workspaces, or that workspaces are in. None: no command runs. */
      workspaces: z
        .array(AbsolutePath.refine((path) => path !== "/", "name a directory, not the whole host"))
        .max(64)
        .default([]),
      /** The profile by which `boundaryctl hook` has an agent's commands judged. Without it, only by policy. */
      hookProfile: Name.optional(),
      /** What the worker's sandbox has to have, or nothing runs. */
      require: z
        .array(z.enum(SANDBOX_PARTS))
        .max(SANDBOX_PARTS.length)
        .default(["namespaces", "seccomp", "readOnlyRoot"]),
      /** What one command may use. */
      memoryBytes: z.number().int().min(16_777_216).max(1_099_511_627_776).default(536_870_912),
      processes: z.number().int().min(1).max(32_768).default(256),
      cpus: z.number().int().min(1).max(1_024).default(1),
    })
    .prefault({}),
  egress: EgressSchema.prefault({}),
  /** A file of tripwires; without it the shipped set (policies/tripwires.yaml) is used. */
  tripwiresFile: AbsolutePath.optional(),
});

export type Config = z.infer<typeof ConfigSchema>;
export type EgressConfig = Config["egress"];
export type EgressLimits = EgressConfig["limits"];
/** What bounds a socket: connections, and what each may have under way. */
export type SocketLimits = Pick<
  Config["limits"],
  "maxConnections" | "maxConnectionsPerUid" | "maxPendingRequests" | "frameTimeoutMs"
>;

/** The configured exceptions, as the core takes them. */
export function toLeaseTemplates(leases: Config["leases"]): readonly LeaseTemplate[] {
  return leases.map(({ actions, resources, maxUses, ...rest }) => ({
    ...rest,
    actions: actions ?? "all",
    resources: resources?.flatMap((text) => parseResource(text) ?? []) ?? "all",
    maxUses: maxUses ?? null,
  }));
}

/** The configured domains, as the core takes them: they were read when the configuration was. */
export function toIsolation(input: IsolationInput): Isolation {
  const read = readIsolation(input);
  if (read.ok) return read.value;
  const why = read.problems.map(({ problem }) => problem).join("; ");
  throw new BoundaryError("config-invalid", `reading isolation: ${why}`);
}

export type TripwireInput = z.infer<typeof TripwireSchema>;

export function toTripwire(input: TripwireInput): Tripwire {
  const action =
    input.action === "note"
      ? ({ kind: "note" } as const)
      : ({ kind: "trip", to: input.action.trip } as const);
  const matchers = Object.entries(input.match).map(([name, value]) => [name, toMatcher(value)] as const);
  return {
    id: input.id,
    on: input.on,
    match: Object.fromEntries(matchers),
    armed: input.armed,
    action,
    whenBlind: input.whenBlind,
    acrossStop: input.acrossStop,
  };
}

/** zod says of a union only that nothing fits. */
function whyNoEntry(input: unknown): string {
  const usual =
    "give an address, a network, or { address, port, protocol, interface, uid, cgroup, direction }";
  const fields = z.record(z.string(), z.union([z.string(), z.number()]));
  const read = z.union([z.string(), fields]).safeParse(input);
  const why = read.success ? readEntry(read.data) : usual;
  return typeof why === "string" ? why : usual;
}

function toMatcher(value: z.infer<typeof FactMatcher>): Matcher {
  if (typeof value === "string") return { values: [value], negate: false };
  if (Array.isArray(value)) return { values: value, negate: false };
  return { values: value.not, negate: true };
}
