import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { findProgram, follow, run, runSync } from "../../daemon/adapters/run.ts";

const limits = { deadlineMs: 5_000, maxOutputBytes: 10_000 };

describe("findProgram", () => {
  test("finds a program of the fixed directories and gives its absolute path", () => {
    expect(findProgram("cat")).toMatch(/^(\/usr)?\/bin\/cat$/);
  });

  test.each(["no-such-program", "../bin/cat", "/bin/cat", "", "cat;ls", "-cat", "a b"])(
    "gives null for %j",
    (name) => {
      expect(findProgram(name)).toBeNull();
    },
  );
});

describe("run and runSync", () => {
  const ways = [
    ["run", run],
    ["runSync", async (...args: Parameters<typeof runSync>) => runSync(...args)],
  ] as const;

  test.each(ways)("%s gives code, stdout and stderr, and feeds the input", async (_, way) => {
    expect(await way("cat", ["-"], { ...limits, input: "hello" })).toEqual({
      code: 0,
      stdout: "hello",
      stderr: "",
    });
    const refused = await way("cat", ["/no/such/file"], limits);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("No such file");
  });

  test.each(ways)("%s hands down no environment but the locale", async (_, way) => {
    expect((await way("env", [], limits)).stdout).toBe("LC_ALL=C\n");
  });

  test.each(ways)("%s starts no shell", async (_, way) => {
    expect((await way("echo", ["$HOME", "`id`", ";", "id"], limits)).stdout).toBe("$HOME `id` ; id\n");
  });

  test.each(ways)("%s ends a program at its deadline", async (_, way) => {
    await expect(way("sleep", ["60"], { ...limits, deadlineMs: 50 })).rejects.toMatchObject({
      code: "run-timeout",
    });
  });

  test.each(ways)("%s ends a program that writes too much", async (_, way) => {
    await expect(way("yes", [], limits)).rejects.toMatchObject({ code: "run-failed" });
  });

  test.each(ways)("%s refuses a program that is not there", async (_, way) => {
    await expect(way("no-such-program", [], limits)).rejects.toMatchObject({ code: "run-failed" });
  });

  test.each(ways)("%s is not upset by a program that ignores its input", async (_, way) => {
    expect((await way("true", [], { ...limits, input: "x".repeat(1_000_000) })).code).toBe(0);
  });
});

describe("follow", () => {
  test("gives each line, and says once how the program ended", async () => {
    const lines: string[] = [];
    const why = await new Promise<string>((resolve) => {
      follow("printf", ["one\\ntwo\\n\\nthr"], {
        onLine: (line) => lines.push(line),
        onEnd: resolve,
        maxLineBytes: 100,
      });
    });
    expect(lines).toEqual(["one", "two", ""]);
    expect(why).toContain("ended with code 0");
  });

  test.each([
    ["finished", ["a\\nbbbbbbbbbbbb\\n"]],
    ["unfinished", ["bbbbbbbbbbbb"]],
  ])("ends a program that writes a too long line (%s)", async (_, args) => {
    const why = await new Promise<string>((resolve) => {
      follow("printf", args, { onLine: () => {}, onEnd: resolve, maxLineBytes: 10 });
    });
    expect(why).toContain("more than 10 bytes");
  });

  test("stop ends the program and nothing is called any more", async () => {
    let ended = false;
    const following = follow("sleep", ["60"], {
      onLine: () => {},
      onEnd: () => {
        ended = true;
      },
      maxLineBytes: 10,
    });
    await following.stop();
    await following.stop();
    expect(ended).toBe(false);
    expect(() => process.kill(following.pid ?? 0, 0)).toThrow("ESRCH");
  });

  test("a followed program dies with us, also when we are killed", async () => {
    const script = `
      import { follow } from ${JSON.stringify(new URL("../../daemon/adapters/run.ts", import.meta.url).href)};
      const f = follow("sleep", ["600"], { onLine() {}, onEnd() {}, maxLineBytes: 10 });
      console.log(f.pid);
      setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", script]);
    const pid = await new Promise<number>((resolve) => {
      parent.stdout.once("data", (chunk: Buffer) => resolve(Number(chunk.toString())));
    });
    await waitFor(() => commandOf(pid).includes("sleep")); // setpriv has set the signal and become sleep
    parent.kill("SIGKILL");
    await waitFor(() => !commandOf(pid).includes("sleep"));
    const left = commandOf(pid);
    if (left.includes("sleep")) process.kill(pid, "SIGKILL");
    expect(left).not.toContain("sleep");
  });
});

function commandOf(pid: number): string {
  const file = `/proc/${pid}/cmdline`;
  try {
    return existsSync(file) ? (readFileSync(file, "utf8").split("\0")[0] ?? "") : "";
  } catch {
    return ""; // gone between the two calls
  }
}

async function waitFor(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}
