import { type AccessRequest, type Evaluation, NOTHING_BESIDE } from "./core/access.ts";
import { accessDigest } from "./core/access-text.ts";
import { renderWords, type Wish } from "./exec-wish.ts";
import type { ExecCheckReply, ExecRunReply, ExecVerdict } from "./protocol/exec.ts";

type Principal = { readonly type: string; readonly id: string };

/** A guarded command as a question: what it is, what it reaches, and the digest of all that was asked for. */
export function commandRequest(
  wish: Wish,
  principal: Principal,
  about: { readonly program: string; readonly reach: ExecVerdict["reach"]; readonly digest: string },
): AccessRequest {
  // what the sandbox lets it touch, and not what its rule would let it
  const reach = wish.network ? "network" : about.reach === "none" ? "none" : "file";
  return {
    subject: { ...principal, properties: {} },
    action: { name: "command.run", properties: {} },
    resource: {
      type: "command",
      id: about.program,
      properties: {
        command: renderWords(wish.argv),
        reach,
        profile: wish.profile,
        cwd: wish.cwd,
        digest: about.digest,
      },
    },
    context: wish.secret === null ? {} : { taint: ["secret"] },
  };
}

/** A secret that goes into a command's stdin. */
export function secretRequest(
  { workspace, name }: { readonly workspace: string; readonly name: string },
  principal: Principal,
): AccessRequest {
  return {
    subject: { ...principal, properties: {} },
    action: { name: "secret.read", properties: {} },
    resource: { type: "secret", id: `${workspace}/${name}`, properties: {} },
    context: {},
  };
}

/** Of a question to a profile: for counting the same one. */
export function digestOfCheck(params: object): string {
  return accessDigest({
    subject: { type: "exec", id: "1", properties: {} },
    action: { name: "exec.check", properties: {} },
    resource: { type: "command", id: "", properties: { params: JSON.stringify(params) } },
    context: {},
  });
}

/** What policy said, as the answer to a command; without a run of its own. */
export function replyOf(evaluation: Evaluation, verdict: ExecVerdict): ExecRunReply {
  const { retryable: _, ...told } = evaluation;
  return { ...told, id: "", why: told.decision ? "" : told.reason.join(", "), verdict };
}

/** A refusal that is still to be filled in. */
export const EMPTY: Omit<ExecRunReply, "code" | "why" | "mode" | "assurance"> = {
  ...NOTHING_BESIDE,
  decision: false,
  id: "",
  verdict: null,
  reason: [],
};

/** No profile is meant for this: nothing was judged, and nothing is said against it. */
export const NOT_CONFIGURED: ExecCheckReply = {
  configured: false,
  verdict: "deny",
  rule: "not-configured",
  why: "no profile is configured for hooks (exec.hookProfile)",
  reach: "none",
  profile: "",
  mode: "LOCKDOWN",
  layers: [],
  moreLayers: 0,
  missing: [],
  correlationId: "",
};
