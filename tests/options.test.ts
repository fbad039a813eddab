import { describe, expect, test } from "vitest";
import { parseCommand } from "../daemon/options.ts";

const root = (...argv: string[]) => parseCommand(argv, {}, 0);

describe("parseCommand", () => {
  test("root gets the system's directories, a service systemd's, a user his own", () => {
    const places = (command: ReturnType<typeof parseCommand>) =>
      command.kind === "run" && [
        command.options.configFile,
        command.options.logDir,
        command.options.stateDir,
        command.options.runtimeDir,
      ];
    expect(places(root())).toEqual([
      "/etc/boundary-daemon/config.yaml",
      "/var/log/boundary-daemon",
      "/var/lib/boundary-daemon",
      "/run/boundary-daemon",
    ]);
    const unit = {
      STATE_DIRECTORY: "/s",
      LOGS_DIRECTORY: "/l",
      RUNTIME_DIRECTORY: "/r",
      CONFIGURATION_DIRECTORY: "/c",
    };
    expect(places(parseCommand([], unit, 990))).toEqual(["/c/config.yaml", "/l", "/s", "/r"]);
    expect(places(parseCommand([], { HOME: "/home/ana", XDG_RUNTIME_DIR: "/run/user/1000" }, 1000))).toEqual([
      "/home/ana/.config/boundary-daemon/config.yaml",
      "/home/ana/.local/state/boundary-daemon/log",
      "/home/ana/.local/state/boundary-daemon/state",
      "/run/user/1000/boundary-daemon",
    ]);
  });

  test.each([
    [["--mode", "airgap"], { kind: "run", options: { mode: "AIRGAP" } }],
    [["--mode=LOCKDOWN"], { kind: "run", options: { mode: "LOCKDOWN" } }],
    [["--config", "/x"], { kind: "run", options: { configFile: "/x", configNamed: true } }],
    [["--close"], { kind: "close" }],
    [["--check-config"], { kind: "check-config" }],
    [["--help"], { kind: "help" }],
    [["--version"], { kind: "version" }],
    [["--mode", "shut"], { kind: "usage" }],
    [["--mdoe", "open"], { kind: "usage" }],
    [["open"], { kind: "usage" }],
    [["--config"], { kind: "usage" }],
  ])("%j", (argv, expected) => {
    expect(root(...argv)).toMatchObject(expected);
  });
});
