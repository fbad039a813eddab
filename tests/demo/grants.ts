import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import type { DaemonHome } from "../support/daemon-process.ts";
import type { Ctl } from "./ctl.ts";
import type { Report } from "./report.ts";

const NOBODY = 65_534;
/** The story leaves LOCKDOWN more often in a minute than people do. */
export const OFTEN = { loosening: { requests: 60 } } as const;

type Answer = {
  readonly status: number;
  readonly decision: boolean;
  readonly context: Record<string, unknown>;
};

/** An agent with a token of its own, over HTTP; where another user can be played, a person has to approve what it asks. */
export async function tellGrants(
  report: Report,
  ctl: Ctl,
  home: DaemonHome,
  { asNobody }: { readonly asNobody: boolean },
): Promise<void> {
  const file = (name: string) => join(home.path, `${name}.token`);
  const made = await ctl.run("token", "bootstrap", "--out", file("admin"));
  const again = await ctl.run("token", "bootstrap", "--out", file("second"));
  report.saw("the first token is made once, and never again", made.code === 0 && again.code !== 0);
  const terms = ["Agent::demo", "--actions", "recall,tool.run", "--for", "10m"];
  const minted = await ctl.run(
    "token",
    "mint",
    ...terms,
    "--token-file",
    file("admin"),
    "--out",
    file("agent"),
  );
  report.saw("with it one is made for an agent: two actions, ten minutes", minted.code === 0, minted.stderr);
  const token = readFileSync(file("agent"), "utf8").trim();
  const ask = (action: string, type: string, properties: object): Promise<Answer> =>
    post(join(home.runtimeDir, "decide.sock"), token, asNobody, {
      subject: { type: "Agent", id: "demo" },
      action: { name: action },
      resource: { type, id: "fetch", properties },
    });

  const local = await ask("tool.run", "tool", { reach: "file" });
  report.saw("the agent asks over HTTP (AuthZEN): a local tool is allowed", local.decision, told(local));
  const outside = await ask("file.read", "file", {});
  report.saw(
    "what its token does not name is denied",
    outside.context["code"] === "token-scope",
    told(outside),
  );
  const network = () => ask("tool.run", "tool", { reach: "network" });
  const waits = await network();
  const { approval } = waits.context;
  report.saw(
    "a network tool needs a person: denied, and a question waits for one",
    !waits.decision && waits.context["code"] === "approval-required" && typeof approval === "string",
    told(waits),
  );
  if (asNobody) {
    const approved = await ctl.onTerminal("approvals", "approve", String(approval), "--yes");
    report.saw(
      "a person approves exactly this",
      approved.code === 0,
      approved.code === 0 ? "" : approved.stdout,
    );
    const [first, second] = [await network(), await network()];
    report.saw("it is allowed once, and then asks anew", first.decision && !second.decision, told(first));
  } else
    report.note("not shown: nobody approves his own question, and without root there is nobody else here");
  const shown = (await ctl.json("token", "show", "--token-file", file("agent"))) as unknown;
  const { id } = (shown as { token: { id: string } }).token;
  const revoked = await ctl.run("token", "revoke", id);
  const gone = await ask("tool.run", "tool", { reach: "file" });
  report.saw(
    "its token revoked, it gets nothing any more",
    revoked.code === 0 && !gone.decision && gone.context["code"] === "token-revoked",
    told(gone),
  );
}

function told({ status, context }: Answer): string {
  return `HTTP ${status}: ${String(context["code"])} ${JSON.stringify(context["reason"] ?? [])}`;
}

function post(socketPath: string, token: string, asNobody: boolean, body: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        createConnection: () => dialled(socketPath, asNobody),
        method: "POST",
        path: "/access/v1/evaluation",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => {
          text += part;
        });
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, context: {}, ...JSON.parse(text) }),
        );
      },
    );
    asked.once("error", reject);
    asked.end(JSON.stringify(body));
  });
}

/** The kernel notes who connects at that moment: root plays nobody for as long. */
function dialled(path: string, asNobody: boolean): ReturnType<typeof connect> {
  if (!asNobody) return connect(path);
  process.seteuid?.(NOBODY);
  try {
    return connect(path);
  } finally {
    process.seteuid?.(0);
  }
}
