import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createExecHost } from "../../daemon/adapters/exec-host.ts";
import { openExecWorker } from "../../daemon/adapters/exec-worker.ts";
import { peerOf } from "../../daemon/adapters/peer.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import type { DecideParts } from "../../daemon/decide.ts";
import { parseExecProfiles } from "../../daemon/exec/profile.ts";
import type { Sandbox } from "../../daemon/exec/worker-frames.ts";
import { createExec, type Exec, type ExecParts } from "../../daemon/exec-run.ts";
import type { EgressDoor, ExecHost } from "../../daemon/ports.ts";
import type { ExecRunReply, ExecWaitReply } from "../../daemon/protocol/exec.ts";
import { type FakeRun, type FakeWorker, fakeWorker } from "./fake-worker.ts";
import { startHost } from "./host.ts";
import { dataOf, officeOf, ROLES_CONFIG } from "./office.ts";
import { vaultHost } from "./vault-host.ts";

type Options = {
  readonly mode?: Mode;
  readonly policies?: DecideParts["policies"];
  readonly sandbox?: Sandbox;
  /** What the worker does with an order; without it the command starts, and that is all. */
  readonly onRun?: (run: FakeRun) => void;
  readonly worker?: false;
  readonly egress?: EgressDoor;
  readonly exec?: object;
  readonly host?: Partial<ExecHost>;
  /** What lets a secret leave the vault, one for each that is on its way. */
  readonly beforeSecret?: (() => void)[];
};

const NO_EGRESS: EgressDoor = {
  start: () => undefined,
  state: () => ({ kind: "absent", why: "there is none in this test" }),
  open: () => Promise.reject(new Error("not asked")),
  endAll: () => undefined,
  stop: () => undefined,
};
const PROGRAM = "#!/bin/true\n";

const profiles = (bin: string): string => `version: 1
patterns: { word: '[^/]*' }
notPaths: [word]
profiles:
  - name: default
    modes: [OPEN, RESTRICTED, TRUSTED, AIRGAP]
    unlisted: deny
    unresolved: ask
    searchPath: [${bin}]
    environment: [GREETING]
    programs:
      - name: [tool]
        rules:
          - { id: run, verdict: allow, first: [run], operands: ['text*'], match: ['tool run a'] }
          - { id: fetch, verdict: allow, reach: network, first: [fetch], operands: ['text*'], match: ['tool fetch a'] }
          - { id: push, verdict: ask, first: [push], operands: ['text*'], match: ['tool push a'] }
      - name: [pinned]
        sha256: ${createHash("sha256").update(PROGRAM).digest("hex")}
        rules:
          - { id: run, verdict: allow, match: ['pinned'] }
`;

export type ExecService = Awaited<ReturnType<typeof execService>>;

/** The real service over a host of fakes: the real socket to a worker that runs nothing, real files, a real vault. */
export async function execService(options: Options = {}) {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "boundary-exec-")));
  const [bin, workspace] = [join(home, "bin"), join(home, "work")];
  for (const directory of [bin, workspace]) mkdirSync(directory);
  for (const name of ["tool", "pinned"]) writeFileSync(join(bin, name), PROGRAM, { mode: 0o755 });
  const parsed = parseExecProfiles(profiles(bin));
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const path = join(home, "worker", "worker.sock");
  const began = options.onRun ?? ((run: FakeRun) => run.started());
  const worker: FakeWorker | null =
    options.worker === false ? null : await fakeWorker(path, began, options.sandbox);
  const holder: { exec: Exec | null } = { exec: null };
  const host = await startHost({
    mode: options.mode ?? "OPEN",
    ...(options.policies ? { policies: options.policies } : {}),
    hearers: [(mode) => holder.exec?.modeIs(mode)],
    config: {
      roles: ROLES_CONFIG,
      ceremony: { requireTerminal: false },
      limits: { uid: { requests: 0 }, overall: { requests: 0 } },
      exec: { workspaces: [workspace], ...options.exec },
    },
  });
  const vault = vaultHost({ home: join(home, "vault") });
  const told: string[] = [];
  const tell = (fields: object, message: string) => void told.push(`${message} ${JSON.stringify(fields)}`);
  const opLog = { info: tell, warn: tell, error: tell };
  const adapter = openExecWorker({ path, peerOf, random: () => 0, opLog });
  const parts: ExecParts = {
    settings: host.config.exec,
    profiles: parsed.value,
    host: { ...createExecHost(), ...options.host },
    worker: adapter,
    egress: options.egress ?? NO_EGRESS,
    evaluator: host.evaluator,
    daemon: host.daemon,
    trustedInterfaces: [],
    denials: host.denials,
    vault: {
      known: vault.vault.known,
      withSecret: async (workspace, name, work) => {
        const { beforeSecret } = options;
        if (beforeSecret) await new Promise<void>((resolve) => void beforeSecret.push(resolve));
        return vault.vault.withSecret(workspace, name, work);
      },
    },
    clock: host.clock,
    opLog,
  };
  const exec = createExec(parts);
  holder.exec = exec;
  if (worker !== null && parts.settings.workspaces.length > 0)
    await until(() => adapter.state().kind === "ready");
  const office = officeOf(host, { terminal: "pts/1", over: { exec, vault: vault.vault } });
  const ask = office.ask;

  return {
    home,
    bin,
    workspace,
    host,
    vault,
    worker: worker as FakeWorker,
    adapter,
    exec,
    ask,
    office,
    told,
    /** Everything that was recorded, as text. */
    log: () => host.store.bytes.toString("utf8"),
    run: async (
      uid: number,
      argv: readonly string[],
      more: object = {},
      token?: string,
    ): Promise<ExecRunReply> => dataOf(await ask(uid, "exec.run", { argv, cwd: workspace, ...more }, token)),
    /** All that comes until its end. */
    async rest(uid: number, id: string) {
      const out = { stdout: "", stderr: "" };
      for (let after = 0; ; ) {
        const said = dataOf<ExecWaitReply>(await ask(uid, "exec.wait", { id, after, forMs: 5_000 }));
        for (const { stream, data } of said.output) out[stream] += Buffer.from(data, "base64").toString();
        after = said.next;
        if (said.end !== null) return { ...out, end: said.end };
      }
    },
    async remove(): Promise<void> {
      exec.stop();
      await worker?.stop();
      vault.remove();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Waits for something that comes over a socket; fails when it does not. */
export async function until(done: () => boolean): Promise<void> {
  for (let turn = 0; turn < 500; turn++) {
    if (done()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("it did not come");
}
