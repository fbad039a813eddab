import { createHash, randomBytes } from "node:crypto";
import type { z } from "zod";
import type { Data } from "./audit/record.ts";
import type { Caller, Evaluation } from "./core/access.ts";
import { privilegeMode } from "./core/authority.ts";
import type { Config } from "./core/config.ts";
import { BoundaryError, type ErrorCode, renderErrorChain } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";
import { posture } from "./core/posture.ts";
import { redactText } from "./core/redact.ts";
import type { Daemon } from "./daemon.ts";
import { changedSince, type createEvaluator, type Moment, momentOf } from "./decide.ts";
import type { Denials } from "./denials.ts";
import type { ProgramFile } from "./exec/judging.ts";
import type { Known } from "./exec/output-redactor.ts";
import type { ExecProfiles, Profile } from "./exec/profile.ts";
import { ORDER_LIFETIME_MS } from "./exec/run-order.ts";
import { type Judgement, judge } from "./exec/verdict.ts";
import type { Sandbox } from "./exec/worker-frames.ts";
import {
  commandRequest,
  digestOfCheck,
  EMPTY,
  NOT_CONFIGURED,
  replyOf,
  secretRequest,
} from "./exec-replies.ts";
import { createRuns, type RunOwner, type Start } from "./exec-runs.ts";
import { scanGiven } from "./exec-scan.ts";
import { digestOf, filesNamed, placesOf, readPlace, readWish, renderWords, type Wish } from "./exec-wish.ts";
import type { Clerk } from "./limits.ts";
import { monoMs } from "./limits.ts";
import type { Clock, EgressDoor, EgressWish, ExecHost, ExecWorker, OpLog } from "./ports.ts";
import type {
  EXEC_PARAMS,
  ExecCheckReply,
  ExecEndReply,
  ExecRunReply,
  ExecVerdict,
  ExecWaitReply,
} from "./protocol/exec.ts";
import type { Control } from "./protocol/messages.ts";
import type { Vault } from "./vault.ts";

type Params<V extends keyof typeof EXEC_PARAMS> = z.output<(typeof EXEC_PARAMS)[V]>;

/** Who asks, and for whom: the token's principal, or his user. */
export type Asker = {
  readonly caller: Caller;
  readonly principal: { readonly type: string; readonly id: string };
  readonly owner: RunOwner;
  /** Whether he could not be told any more what came of it: nobody else learns its id. */
  readonly isGone: () => boolean;
};

export type ExecParts = {
  readonly settings: Config["exec"];
  /** null: none were read, since no workspace is configured. */
  readonly profiles: ExecProfiles | null;
  readonly host: ExecHost;
  readonly worker: ExecWorker;
  readonly egress: EgressDoor;
  readonly evaluator: ReturnType<typeof createEvaluator>;
  readonly daemon: Pick<Daemon, "state" | "assurance" | "stopping" | "record">;
  readonly trustedInterfaces: readonly string[];
  readonly denials: Pick<Denials, "record">;
  readonly vault: Pick<Vault, "known" | "withSecret">;
  readonly clock: Clock;
  readonly opLog: OpLog;
};

/** At once: of all, and of one user. */
const MAX_RUNS = 16;
const MAX_RUNS_OF_UID = 8;
const MAX_LAYERS_TOLD = 24;
/** For a way out to be opened. */
const WAY_MS = 10_000;

/** Commands, run for those who ask: decided here, and run by the worker. */
export type Exec = Clerk & {
  /** The judgement of a profile alone. What is denied is recorded before it is answered; so is what is not. */
  check(params: Params<"exec.check">, asker: Asker): Promise<ExecCheckReply>;
  /**
   * The whole way, until it runs or it is known why not. Rejects with BoundaryError for what could not be looked at:
   * "exec-invalid", "exec-normalisation", "exec-cwd", "too-many-requests".
   */
  run(params: Params<"exec.run">, asker: Asker): Promise<ExecRunReply>;
  wait(params: Params<"exec.wait">, by: RunOwner | "admin"): Promise<ExecWaitReply>;
  end(params: Params<"exec.end">, by: RunOwner | "admin", who: string): ExecEndReply;
  isLive(id: string): boolean;
  /** Of every mode that comes to be wanted, before its record. */
  modeIs(mode: Mode): void;
  status(): Pick<Control, "state" | "detail">;
  /** Of the way out that commands have. */
  egressStatus(): Pick<Control, "state" | "detail">;
};

/** A place among those that run at once. */
type Slot = { handOver(): void; isHandedOver(): boolean; release(): void };

/** What a command gets on its stdin. */
type Input = {
  readonly stdin: Buffer;
  readonly secret: {
    readonly name: string;
    readonly version: number;
    readonly known: Known;
    readonly isOpen: () => boolean;
  } | null;
};

/** A refusal on its way to the reply. */
type No = {
  readonly code: ErrorCode;
  readonly why: string;
  readonly reason: readonly string[];
  readonly verdict: ExecVerdict | null;
  /** What is asked again, and counted; null where nobody is to try anything against it. */
  readonly digest: string | null;
};

export function createExec(parts: ExecParts): Exec {
  const { settings, host, worker, egress, evaluator, daemon, denials, clock, opLog } = parts;
  const moment = () => momentOf({ ...parts, wallMs: clock.wallMs });
  const slots = new Map<number, number>();
  let stopped = false;
  const runs = createRuns({
    worker,
    clock,
    append: (entry) => daemon.record(entry),
    lacking,
    opLog,
  });
  // without a workspace nothing can be asked of one
  const isConfigured = settings.workspaces.length > 0;
  if (isConfigured) {
    worker.start((event) => runs.heard(event));
    egress.start();
  }

  function lacking(sandbox: Sandbox): string {
    return settings.require.filter((part) => !sandbox[part]).join(", ");
  }

  function profileOf(name: string): Profile {
    if (parts.profiles === null)
      throw new BoundaryError("exec-cwd", "looking for the workspace: none is configured (exec.workspaces)");
    const profile = parts.profiles.get(name);
    if (profile !== undefined) return profile;
    throw new BoundaryError("exec-invalid", `looking for the profile: there is no ${JSON.stringify(name)}`);
  }

  function verdictOf(judgement: Judgement, profile: Profile, mode: Mode): ExecVerdict {
    const { verdict, rule, reason, reach, layers } = judgement;
    const state = worker.state();
    return {
      verdict,
      rule,
      why: reason,
      reach,
      profile: profile.name,
      mode,
      layers: layers
        .slice(0, MAX_LAYERS_TOLD)
        .map(({ depth, what, text, verdict: said, rule: by, reason: because }) => ({
          depth,
          what,
          text,
          verdict: said,
          rule: by,
          reason: because,
        })),
      moreLayers: Math.max(0, layers.length - MAX_LAYERS_TOLD),
      missing: state.kind === "ready" ? state.sandbox.missing : [`there is no worker: ${state.why}`],
    };
  }

  async function check(params: Params<"exec.check">, asker: Asker): Promise<ExecCheckReply> {
    const name = params.profile ?? settings.hookProfile;
    if (name === undefined) return NOT_CONFIGURED;
    const profile = profileOf(name);
    const place = await readPlace(params, host, settings.workspaces);
    const mode = privilegeMode(daemon.state());
    const command = params.argv === undefined ? { line: params.line ?? "" } : { argv: params.argv };
    const judgement = judge(
      { ...command, cwd: place.cwd, environmentNames: params.environment, profile },
      { mode, workspace: place.workspace, resolveProgram: host.programs(profile) },
    );
    const verdict = verdictOf(judgement, profile, mode);
    const told = { ...verdict, configured: true };
    const denied = (code: ErrorCode): No => ({
      code,
      why: verdict.why,
      reason: [code, verdict.rule],
      verdict,
      digest: isAboutSecret(judgement) ? null : digestOfCheck(params),
    });
    if (verdict.verdict === "deny")
      return {
        ...told,
        correlationId: await recordNo(asker, "exec.check", judgement, denied("exec-denied")),
      };
    // an "ask" of the profile is no yes: whoever asked puts it to a person
    const data = decisionData(asker, "exec.check", judgement, {
      decision: verdict.verdict === "allow" ? "allow" : "deny",
      code: verdict.verdict === "allow" ? "allowed" : "approval-required",
      reason: [verdict.rule],
    });
    const { seq, durable } = daemon.record({ kind: "decision", data });
    try {
      if (daemon.state().room !== "ok") throw new Error("no room");
      await durable;
      return { ...told, correlationId: String(seq) };
    } catch {
      const why = "the answer could not be recorded";
      return { ...told, verdict: "deny", rule: "log-unavailable", why, correlationId: "" };
    }
  }

  async function run(params: Params<"exec.run">, asker: Asker): Promise<ExecRunReply> {
    const slot = takeSlot(asker.caller.uid);
    try {
      return await runInSlot(params, asker, slot);
    } finally {
      if (!slot.isHandedOver()) slot.release();
    }
  }

  /** Holds a place until it is over; released twice it counts once. A run that it was handed over to releases it itself. */
  function takeSlot(uid: number): Slot {
    const all = [...slots.values()].reduce((sum, count) => sum + count, 0);
    const own = slots.get(uid) ?? 0;
    if (all >= MAX_RUNS || own >= MAX_RUNS_OF_UID)
      throw new BoundaryError(
        "too-many-requests",
        own >= MAX_RUNS_OF_UID
          ? `starting a command: ${own} of yours run already`
          : `starting a command: ${all} run already`,
      );
    slots.set(uid, own + 1);
    let [held, handedOver] = [true, false];
    return {
      handOver() {
        handedOver = true;
      },
      isHandedOver: () => handedOver,
      release() {
        if (!held) return;
        held = false;
        const left = (slots.get(uid) ?? 1) - 1;
        if (left === 0) slots.delete(uid);
        else slots.set(uid, left);
      },
    };
  }

  async function runInSlot(params: Params<"exec.run">, asker: Asker, slot: Slot): Promise<ExecRunReply> {
    if (stopped) throw new BoundaryError("stopping", "starting a command");
    const profile = profileOf(params.profile);
    const wish = await readWish(params, host, settings.workspaces);
    // what comes after is found on this: files, people and the vault take their time
    const seen = moment();
    const mode = privilegeMode(seen.situation);
    const lookUp = remembered(host.programs(profile));
    const places = placesOf(wish, profile);
    const judgement = judge(
      {
        argv: wish.argv,
        cwd: wish.cwd,
        environmentNames: wish.environment.map(([name]) => name),
        profile,
      },
      { mode, workspace: wish.workspace, resolveProgram: lookUp },
    );
    const verdict = verdictOf(judgement, profile, mode);
    const say = (code: ErrorCode, why: string, reason: readonly string[], digest: string | null) =>
      refused(asker, judgement, { code, why, reason: [code, ...reason], verdict, digest });
    const scanned = await scanGiven(
      {
        argv: wish.argv,
        environment: wish.environment,
        stdin: wish.stdin,
        files: filesNamed(wish, places),
        places,
        known: parts.vault.known(),
      },
      host,
      () => monoMs(clock),
    );
    if (scanned.verdict === "found") {
      const found = scanned.finds.map(({ rule, place }) => `${rule} in ${place}`);
      return say("exec-secret", `what looks like a secret: ${found.join("; ")}`, found, null);
    }
    if (scanned.verdict === "unscanned")
      return say("exec-secret", `it could not be searched for secrets: ${scanned.why}`, ["unscanned"], null);
    const plainDigest = digestOf(wish, { path: "", sha256: "" });
    if (verdict.verdict === "deny")
      return isAboutSecret(judgement)
        ? say("exec-secret", `${verdict.rule}: ${verdict.why}`, [verdict.rule], null)
        : say("exec-denied", `${verdict.rule}: ${verdict.why}`, [verdict.rule], plainDigest);
    if (wish.network && verdict.reach !== "network")
      return say(
        "exec-denied",
        "no rule that fits the command reaches the network",
        ["network"],
        plainDigest,
      );
    const file = lookUp(wish.argv[0] ?? "", wish.cwd);
    const sha256 = file === null ? null : await host.digest(file.real);
    if (file === null || sha256 === null || (file.sha256 !== null && file.sha256 !== sha256))
      return say("exec-denied", "the program cannot be read, or was changed", ["program"], plainDigest);
    const program = { path: file.real, sha256 };
    const ready = readiness();
    if (ready !== null) return say(ready.code, ready.why, [], plainDigest);
    const way = egress.state();
    if (wish.network && way.kind === "absent")
      return say("exec-unavailable", noProxy(way.why), [], plainDigest);
    return decided({ wish, profile, program, judgement, verdict, mode, seen }, asker, slot);
  }

  /** Why nothing can be run now; null when it can. */
  function readiness(): { readonly code: ErrorCode; readonly why: string } | null {
    const state = worker.state();
    if (state.kind === "absent") return { code: "exec-unavailable", why: `there is no worker: ${state.why}` };
    const lacks = lacking(state.sandbox);
    if (lacks === "") return null;
    return { code: "exec-isolation", why: `the worker's sandbox lacks ${lacks}` };
  }

  type Judged = {
    readonly wish: Wish;
    readonly profile: Profile;
    readonly program: { readonly path: string; readonly sha256: string };
    readonly judgement: Judgement;
    readonly verdict: ExecVerdict;
    readonly mode: Mode;
    /** When it was judged: nothing is ordered once that has changed. */
    readonly seen: Moment;
  };

  /** The one way to a decision (decide.ts), with what the profile leaves to a person; then it is begun. */
  async function decided(judged: Judged, asker: Asker, slot: Slot): Promise<ExecRunReply> {
    const { wish, program, verdict } = judged;
    const { caller } = asker;
    const digest = digestOf(wish, program);
    const about = commandRequest(wish, asker.principal, {
      program: program.path,
      reach: verdict.reach,
      digest,
    });
    const reading = wish.secret && secretRequest(wish.secret, asker.principal);
    const outlook = reading === null ? "allow" : evaluator.outlook(caller, reading);
    const person = [
      ...(verdict.verdict === "ask" ? [`profile ${verdict.rule}`] : []),
      ...(outlook === "person" ? ["secret.read"] : []),
    ];
    // what nobody will get is not asked for: the refusal is the secret's
    if (reading !== null && outlook === "deny") {
      const no = await evaluator.evaluate(caller, reading);
      return no.decision ? lapsed(replyOf(no, verdict), "policy has changed") : replyOf(no, verdict);
    }
    const evaluation = await evaluator.evaluate(caller, about, person.length === 0 ? {} : { person });
    if (!evaluation.decision) return replyOf(evaluation, verdict);
    if (reading !== null) {
      const { approval } = evaluation;
      const second = await evaluator.evaluate(caller, reading, approval === "" ? {} : { approval });
      if (!second.decision) return replyOf(second, verdict);
    }
    const decision = { evaluation, digest };
    if (wish.secret === null) {
      const { came } = await begin(judged, asker, decision, { stdin: wish.stdin, secret: null }, slot);
      return came;
    }
    const { workspace, name } = wish.secret;
    // not kept for as long as it takes to start: the plain text is wiped when it has been handed over
    const { came } = await parts.vault.withSecret(workspace, name, (secret) =>
      begin(
        judged,
        asker,
        decision,
        { stdin: secret.plain, secret: { ...secret, name: `${workspace}/${name}` } },
        slot,
      ),
    );
    return came;
  }

  /** The record first; when it is on disk and nothing has changed, the order. */
  async function begin(
    { wish, profile, program, judgement, verdict, mode, seen }: Judged,
    asker: Asker,
    { evaluation, digest }: { readonly evaluation: Evaluation; readonly digest: string },
    { stdin, secret }: Input,
    slot: Slot,
  ): Promise<{ readonly came: Promise<ExecRunReply> }> {
    const before = changedSince(seen, moment()) ?? goneOf(asker);
    if (before !== null) return { came: Promise.resolve(lapsed(replyOf(evaluation, verdict), before)) };
    if (stopped) throw new BoundaryError("stopping", "starting a command");
    const id = randomBytes(16).toString("hex");
    const { uid, pid, token } = asker.caller;
    let way: Awaited<ReturnType<EgressDoor["open"]>> | null = null;
    /** Also where the run was over before it was open. */
    const endWay = (): void => {
      void way?.end("the command is over").catch(() => undefined);
      way = null;
    };
    runs.add({
      id,
      owner: asker.owner,
      network: wish.network,
      limits: wish.limits,
      facts: { id, uid, program: program.path },
      known: secret === null ? parts.vault.known() : both(parts.vault.known(), secret.known),
      cutOff: endWay,
      release: () => {
        slot.release();
        endWay();
      },
    });
    slot.handOver();
    const started = daemon.record({
      kind: "exec.started",
      data: {
        id,
        by: { uid, pid, ...(token === null ? {} : { tokenId: token }) },
        subject: { type: asker.principal.type, id: asker.principal.id },
        decision: evaluation.correlationId,
        ...(evaluation.approval === "" ? {} : { approval: evaluation.approval }),
        profile: profile.name,
        rule: verdict.rule,
        mode,
        program: program.path,
        sha256: program.sha256,
        command: renderWords(wish.argv),
        digest,
        cwd: wish.cwd,
        workspace: wish.workspace,
        environment: wish.environment.map(([name]) => name),
        stdin: secret === null ? `${stdin.length} bytes` : `secret ${secret.name}, version ${secret.version}`,
        network: wish.network ? "proxy" : "none",
        ...(wish.hosts === null ? {} : { hosts: wish.hosts }),
        limits: wish.limits,
      },
    });
    const off = (code: ErrorCode, why: string) => {
      runs.abandon(id, why);
      endWay();
      const no = { ...replyOf(evaluation, verdict), decision: false, code, why, reason: [code] };
      return { came: Promise.resolve(no) };
    };
    try {
      await started.durable;
    } catch {
      return off("log-unavailable", "it could not be recorded, so nothing was run");
    }
    try {
      if (wish.network) way = await wayFor(egressWish(id, wish, asker));
    } catch (error) {
      const { code, message } =
        error instanceof BoundaryError ? error : { code: "internal" as const, message: "" };
      return off(code, message);
    }
    const changed = runs.cancelled(id) || changedSince(seen, moment()) || goneOf(asker);
    if (changed) return off("answer-lapsed", `ask again: ${changed}`);
    const lock = secret?.isOpen() ?? true;
    if (!lock) return off("vault-locked", "the secret's workspace was locked meanwhile");
    const start = runs.started(id);
    let isSent: boolean;
    try {
      isSent = worker.run(
        {
          v: 1,
          id,
          boot: clock.bootId(),
          notAfterMs: Math.round(clock.bootMs()) + ORDER_LIFETIME_MS,
          argv: wish.argv,
          program,
          cwd: wish.cwd,
          workspace: wish.workspace,
          environment: wish.environment,
          profile: profile.name,
          mode,
          network: wish.network ? "proxy" : "none",
          proxySocket: way?.path ?? "",
          readable: profile.readable.map((path) => (path === "/" ? path : path.replace(/\/$/, ""))),
          stdinDigest: digestOfStdin(stdin),
          limits: {
            ...wish.limits,
            memoryBytes: settings.memoryBytes,
            pids: settings.processes,
            cpus: settings.cpus,
          },
        },
        stdin,
      );
    } catch (error) {
      // an order that no worker would read is a fault of ours, and nobody else's command ends for it
      opLog.error({ err: renderErrorChain(error) }, "an order could not be written");
      return off("internal", "the order could not be written");
    }
    if (!isSent) return off("exec-unavailable", "the worker did not take the order");
    return { came: start.then((came) => told(came)) };

    function told(came: Start): ExecRunReply {
      const reply = replyOf(evaluation, verdict);
      if (came.ok) return { ...reply, id };
      opLog.warn({ id, code: came.code, rule: judgement.rule }, "the worker ran nothing");
      return { ...reply, decision: false, code: came.code, why: redactText(came.why), reason: [came.code] };
    }
  }

  /** The way out, within some time: one that is opened later is closed at once. */
  async function wayFor(wanted: EgressWish): Promise<Awaited<ReturnType<EgressDoor["open"]>>> {
    const opening = egress.open(wanted);
    const late = Promise.withResolvers<null>();
    const alarm = setTimeout(() => late.resolve(null), WAY_MS).unref();
    const way = await Promise.race([opening, late.promise]).finally(() => clearTimeout(alarm));
    if (way !== null) return way;
    void opening.then((one) => one.end("nobody waits for it any more")).catch(() => undefined);
    throw new BoundaryError("exec-unavailable", "opening a way out: the proxy does not say that it is there");
  }

  function egressWish(id: string, wish: Wish, asker: Asker): EgressWish {
    return {
      id,
      uid: asker.caller.uid,
      profile: wish.profile,
      workspace: wish.workspace,
      hosts: wish.hosts,
      policy: async (name, port) => {
        const { decision, code, reason, correlationId } = await evaluator.evaluate(asker.caller, {
          subject: { ...asker.principal, properties: {} },
          action: { name: "network.connect", properties: {} },
          resource: { type: "host", id: name, properties: { port } },
          context: {},
        });
        const seq = correlationId === "" ? -1 : Number(correlationId);
        return { allow: decision, why: [code, ...reason].join(", "), seq };
      },
    };
  }

  /** A denial of ours, before policy was asked. It stands without its record. */
  async function refused(asker: Asker, judgement: Judgement, no: No): Promise<ExecRunReply> {
    const correlationId = await recordNo(asker, "command.run", judgement, no);
    return {
      ...EMPTY,
      code: no.code,
      why: no.why,
      verdict: no.verdict,
      reason: no.reason,
      mode: privilegeMode(daemon.state()),
      assurance: daemon.assurance(),
      correlationId,
    };
  }

  async function recordNo(asker: Asker, action: string, judgement: Judgement, no: No): Promise<string> {
    const { uid, token } = asker.caller;
    const data = decisionData(asker, action, judgement, {
      decision: "deny",
      code: no.code,
      reason: no.reason,
    });
    const digest = no.digest ?? `${action} ${no.code}`;
    const receipt = denials.record({ uid, token }, { digest, answer: no.reason.join(" "), data });
    await receipt.durable;
    return receipt.seq === -1 ? "" : String(receipt.seq);
  }

  function decisionData(
    { caller: { uid, pid, token }, principal }: Asker,
    action: string,
    { layers, rule }: Judgement,
    answer: {
      readonly decision: "allow" | "deny";
      readonly code: string;
      readonly reason: readonly string[];
    },
  ): Data {
    return {
      subject: { type: principal.type, id: principal.id },
      by: { uid, pid, ...(token === null ? {} : { tokenId: token }) },
      action,
      // as it was judged: without secrets
      resource: { type: "command", id: layers[0]?.path ?? "", command: layers[0]?.text ?? "" },
      rule,
      ...answer,
      reason: [...answer.reason],
      mode: daemon.state().wanted,
      assurance: daemon.assurance(),
    };
  }

  /** A command may take its time to end; what it is connected to is let go at once. */
  function modeIs(mode: Mode): void {
    runs.modeIs(mode);
    if (posture(mode).exec !== "by-policy") egress.endAll(`mode ${mode}`);
  }

  return {
    check,
    run,
    wait: async ({ id, after, forMs }, by) => (await runs.wait(id, by, { after, forMs })) ?? unknownRun(),
    end: ({ id }, by, who) => ({ id, state: runs.end(id, by, `ended by ${who}`) ?? unknownRun() }),
    isLive: runs.isLive,
    modeIs,
    tick() {
      if (stopped) return;
      // what the kernel has not confirmed counts as the strictest
      modeIs(privilegeMode(daemon.state()));
      runs.tick();
    },
    stop() {
      stopped = true;
      runs.stop();
      egress.stop();
      worker.stop();
    },
    status() {
      const state = worker.state();
      if (!isConfigured) return { state: "absent", detail: "no workspace is configured: nothing runs" };
      if (state.kind === "absent") return { state: "absent", detail: `no worker: ${state.why}` };
      const lacks = lacking(state.sandbox);
      const missing = state.sandbox.missing.join("; ");
      if (lacks !== "")
        return { state: "failed", detail: `nothing runs: the worker's sandbox lacks ${lacks} (${missing})` };
      return {
        state: "enforced",
        detail: `commands run in the worker's sandbox${missing === "" ? "" : `, without: ${missing}`}`,
      };
    },
    egressStatus() {
      const state = egress.state();
      if (!isConfigured) return { state: "absent", detail: "no workspace is configured: nothing runs" };
      if (state.kind === "absent")
        return { state: "absent", detail: `${noProxy(state.why)}; commands have no network` };
      return {
        state: "enforced",
        detail: `commands reach what is listed and allowed, through the egress proxy; ${state.runs} have a way out now`,
      };
    },
  };
}

function noProxy(why: string): string {
  return `there is no egress proxy (start boundary-egress.service): ${why}`;
}

/** Why nothing is run for him any more; null: he can be told. */
function goneOf({ isGone }: Asker): string | null {
  return isGone() ? "who asked for it is gone" : null;
}

function lapsed(reply: ExecRunReply, why: string): ExecRunReply {
  return {
    ...reply,
    decision: false,
    code: "answer-lapsed",
    why: `ask again: ${why}`,
    reason: ["answer-lapsed"],
  };
}

/** What was looked up once is not looked up again: what is judged is what is ordered. */
function remembered(
  lookUp: (name: string, cwd: string) => ProgramFile | null,
): (name: string, cwd: string) => ProgramFile | null {
  const known = new Map<string, ProgramFile | null>();
  return (name, cwd) => {
    const key = JSON.stringify([name, cwd]);
    const found = known.get(key);
    if (found !== undefined) return found;
    const file = lookUp(name, cwd);
    known.set(key, file);
    return file;
  };
}

function both(a: Known, b: Known): Known {
  return {
    locate: (bytes) => {
      const [first, second] = [a.locate(bytes), b.locate(bytes)];
      return first === null || second === null ? null : [...first, ...second];
    },
    spansLines: () => a.spansLines() || b.spansLines(),
  };
}

/** Whether a profile's refusal is for a secret: then nothing is kept that one could be tried against. */
function isAboutSecret({ layers }: Judgement): boolean {
  return layers.some(({ what }) => what === "secret");
}

function digestOfStdin(stdin: Uint8Array): string {
  return createHash("sha256").update(stdin).digest("hex");
}

function unknownRun(): never {
  throw new BoundaryError("exec-unknown", "there is no such run of yours");
}
