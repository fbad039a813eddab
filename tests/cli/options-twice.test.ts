import { afterEach, describe, expect, test } from "vitest";
import { ROWS } from "../../cli/commands.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const fakes: FakeDaemon[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
});

/** What the daemon is asked by a command line; its answer is none. */
async function asked(args: readonly string[], stdin = "00".repeat(32)): Promise<unknown> {
  const verbs = ["peer.add", "exec.run", "check", "mode.set"];
  const fake = await fakeDaemon(Object.fromEntries(verbs.map((verb) => [verb, { data: {} }])));
  fakes.push(fake);
  const at = args.includes("--") ? args.indexOf("--") : args.length;
  const ran = await boundaryctl(
    [...args.slice(0, at), "--runtime-dir", fake.runtimeDir, ...args.slice(at)],
    {},
    stdin,
  );
  expect([ran.stderr, fake.requests.length]).toEqual([expect.not.stringContaining("argument-invalid"), 1]);
  return fake.requests[0]?.params;
}

const PEER = ["peer", "add", "ct", "--local-id", "a", "--remote-id", "b"];

describe("an option that takes a list", () => {
  test("takes all that is given, at once or one after the other", async () => {
    const given = ["--local-subnet", "10.0.0.0/24", "--remote-subnet", "10.2.0.0/24", "10.3.0.0/24"];
    const more = ["--local-subnet", "10.1.0.0/24", "--remoteSubnet=10.4.0.0/24"];
    expect(await asked([...PEER, ...given, ...more])).toMatchObject({
      peer: {
        localSubnets: ["10.0.0.0/24", "10.1.0.0/24"],
        remoteSubnets: ["10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24"],
      },
    });
  });

  test("is a list with one, and with none", async () => {
    expect(await asked([...PEER, "--local-subnet", "10.0.0.0/24"])).toMatchObject({
      peer: { localSubnets: ["10.0.0.0/24"], remoteSubnets: [] },
    });
  });

  test("with choices, and of what is before --", async () => {
    expect(await asked(["check", "recall", "n", "--taint", "secret", "--taint", "untrusted"])).toMatchObject({
      context: { taint: ["secret", "untrusted"] },
    });
    const run = ["exec", "run", "--env", "A=1", "B=2", "--env", "A=3", "--", "tool", "--env", "C=4"];
    expect(await asked(run)).toMatchObject({
      environment: { A: "3", B: "2" },
      argv: ["tool", "--env", "C=4"],
    });
  });
});

describe("any other option: the last counts", () => {
  test.each<readonly [string, readonly string[], object]>([
    ["a text", ["mode", "set", "airgap", "--reason", "a", "--reason", "b"], { reason: "b" }],
    ["a text with a dash in its name", [...PEER, "--local-id", "c"], { peer: { localId: "c" } }],
    [
      "a choice in any case",
      ["check", "recall", "n", "--class", "public", "--class", "Secret"],
      {
        resource: { properties: { class: "SECRET" } },
      },
    ],
    [
      "a number",
      ["exec", "run", "--output-bytes", "5", "--output-bytes", "6", "--", "x"],
      { outputBytes: 6 },
    ],
    ["a switch", ["exec", "run", "--network", "--network", "--", "x"], { network: true }],
    [
      "one of everybody's",
      ["mode", "set", "airgap", "--reason", "a", "--runtime-dir", "/nonexistent"],
      {
        reason: "a",
      },
    ],
  ])("%s", async (_, args, params) => {
    expect(await asked(args)).toMatchObject(params);
  });
});

test("every command tells its options, those with a list among them", async () => {
  const names = await Promise.all(
    ROWS.map(async (row) => {
      const { command } = await row.load();
      return [command, ...command.children].flatMap((one) => one.optionNames());
    }),
  );
  for (const name of ["local-subnet", "remote-subnet", "env", "taint", "role", "lease", "interface"])
    expect(names.flat()).toContain(name);
  // positionals are none
  for (const name of ["command", "files"]) expect(names.flat()).not.toContain(name);
});
