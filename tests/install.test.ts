import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PROJECT, systemdVersion, unitNames } from "./support/units.ts";

/**
 * systemd/install.sh from a small tree that looks like a built one, below --root. On a running host it is tried in the
 * guest (tests/vm).
 */
const ABLE = process.getuid?.() === 0 && systemdVersion() !== null;
const LIB = "usr/lib/boundary-daemon";

let base: string;
let tree: string;
let root: string;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "boundary-install-"));
  tree = join(base, "tree");
  root = join(base, "root");
  mkdirSync(join(root, "etc"), { recursive: true });
  makeTree();
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

describe("systemd/install.sh", () => {
  test("what it cannot do it says, by its exit code too", () => {
    expect(install("--help")).toMatchObject({ status: 0, stderr: "" });
    expect(install("--no-such-option").status).toBe(2);
    expect(install("--root").status).toBe(2);
    expect(install("--root", "relative").status).toBe(2);
    rmSync(join(tree, "dist"), { recursive: true });
    const notBuilt = install("--root", root, "--dry-run");
    expect(notBuilt.status).toBe(3);
    expect(notBuilt.stderr).toContain("npm run build");
  });

  test("--dry-run says what it would do, and does nothing", () => {
    const { status, stdout } = install("--root", root, "--dry-run");
    expect(status).toBe(0);
    for (const name of unitNames()) expect(stdout).toContain(`/usr/lib/systemd/system/${name}`);
    expect(stdout).toContain("node_modules/runs");
    expect(stdout).not.toContain("node_modules/develops");
    expect(readdirSync(root)).toEqual(["etc"]);
  });
});

describe.skipIf(!ABLE)("systemd/install.sh (needs root and systemd)", () => {
  test("puts everything in its place, writable by root alone, and nothing that only development needs", () => {
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    chmodSync(join(tree, "dist/daemon/main.js"), 0o666);
    expect(install("--root", root)).toMatchObject({ status: 0 });
    for (const name of unitNames())
      expect(read(`usr/lib/systemd/system/${name}`)).toBe(
        readFileSync(join(PROJECT, "systemd", name), "utf8"),
      );
    for (const path of [
      "udev/rules.d/60-boundary-usb.rules",
      "sysusers.d/boundary-daemon.conf",
      "tmpfiles.d/boundary-daemon.conf",
    ])
      expect(existsSync(join(root, "usr/lib", path))).toBe(true);
    expect(readdirSync(join(root, LIB, "node_modules")).sort()).toEqual([
      ".bin",
      "@scope",
      `node-linux-${process.arch}`,
      "runs",
    ]);
    expect(existsSync(join(root, LIB, `node_modules/node-linux-${process.arch}/include`))).toBe(false);
    expect(readFileSync(join(root, LIB, "node_modules/.bin/node"), "utf8")).toContain("#!/bin/sh");
    for (const file of ["lockdown.nft", "lockdown-arp.nft"])
      expect(existsSync(join(root, LIB, "systemd", file))).toBe(true);
    expect(mode(`${LIB}/dist/daemon/main.js`)).toBe("644");
    expect(mode(`${LIB}/systemd/usb-permissions`)).toBe("755");
    expect(read("usr/share/bash-completion/completions/boundaryctl")).toBe("completion\n");
    expect([mode("usr/bin/boundaryctl"), mode("usr/sbin/boundary-daemon")]).toEqual(["755", "755"]);
    expect([mode("etc/boundary-daemon"), mode("etc/boundary-daemon/config.yaml")]).toEqual(["700", "600"]);
    const owner = /^boundary:[^:]*:(\d+):/m.exec(read("etc/passwd"))?.[1];
    expect(String(statSync(join(root, "etc/boundary-daemon/config.yaml")).uid)).toBe(owner);
  });

  test("run again it changes nothing, and keeps the configuration", () => {
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    install("--root", root);
    appendFileSync(join(root, "etc/boundary-daemon/config.yaml"), "# mine\n");
    const again = install("--root", root);
    expect(again.status).toBe(0);
    expect(again.stdout).not.toContain("installed");
    expect(again.stdout).toContain("unchanged");
    expect(read("etc/boundary-daemon/config.yaml")).toContain("# mine");
  });

  test("an upgrade replaces the program whole: what is gone from the tree is gone", () => {
    install("--root", root);
    rmSync(join(tree, "dist/daemon/old.js"));
    writeFileSync(join(tree, "dist/daemon/new.js"), "");
    expect(install("--root", root).stdout).toMatch(/installed +\/usr\/lib\/boundary-daemon\n/);
    expect(readdirSync(join(root, LIB, "dist/daemon")).sort()).toEqual(["main.js", "new.js"]);
    expect(readdirSync(join(root, "usr/lib")).filter((name) => name.startsWith("boundary-daemon."))).toEqual(
      [],
    );
  });

  test("a package's staging directory gets no user and no configuration, and is told so", () => {
    const { status, stdout } = install("--root", root);
    expect(status).toBe(0);
    expect(stdout).toContain("left out");
    expect(readdirSync(join(root, "etc"))).toEqual([]);
  });

  test("--uninstall takes away what was installed, and leaves configuration, keys and log", () => {
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    install("--root", root);
    writeFileSync(join(root, "var/log/boundary-daemon/00000000000000000000.jsonl"), "{}\n");
    expect(install("--uninstall", "--root", root, "--dry-run").stdout).toContain("would run: rm");
    expect(existsSync(join(root, LIB))).toBe(true);
    expect(install("--uninstall", "--root", root).status).toBe(0);
    const left = spawnSync("find", [join(root, "usr"), "-type", "f"], { encoding: "utf8" });
    expect(left.stdout).toBe("");
    expect(existsSync(join(root, "etc/boundary-daemon/config.yaml"))).toBe(true);
    expect(existsSync(join(root, "var/log/boundary-daemon/00000000000000000000.jsonl"))).toBe(true);
    expect(install("--uninstall", "--root", root).status).toBe(0);
  });

  test("does not write through what the user boundary put into its own directory", () => {
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    install("--root", root);
    const victim = join(root, "etc/shadow");
    writeFileSync(victim, "root's own\n", { mode: 0o600 });
    // /etc/boundary-daemon belongs to boundary: it may do this before the next upgrade
    rmSync(join(root, "etc/boundary-daemon/config.yaml"));
    symlinkSync(victim, join(root, "etc/boundary-daemon/config.yaml.new"));
    install("--root", root);
    expect(statSync(victim).uid).toBe(0);
    expect(readFileSync(victim, "utf8")).toBe("root's own\n");
  });

  test("a configuration that is a link is kept as it is, wherever it leads", () => {
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    install("--root", root);
    const config = join(root, "etc/boundary-daemon/config.yaml");
    rmSync(config);
    symlinkSync(join(root, "etc/not-there"), config);
    expect(install("--root", root).stdout).toContain("kept       /etc/boundary-daemon/config.yaml");
    expect(readdirSync(join(root, "etc")).filter((name) => name.includes("config"))).toEqual([]);
    expect(existsSync(join(root, "etc/not-there"))).toBe(false);
  });

  test("--uninstall takes udev's mark away, or the next installation closes every controller with no daemon there", () => {
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    install("--root", root);
    writeFileSync(join(root, "var/lib/boundary-daemon/usb-enforced"), "");
    install("--uninstall", "--root", root);
    expect(existsSync(join(root, "var/lib/boundary-daemon/usb-enforced"))).toBe(false);
  });
});

function install(...args: readonly string[]) {
  return spawnSync("sh", [join(tree, "systemd/install.sh"), ...args], { encoding: "utf8", timeout: 20_000 });
}

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

function mode(path: string): string {
  return (statSync(join(root, path)).mode & 0o7777).toString(8);
}

/** What is built, with a Node that runs only the two things that install.sh has it run. */
function makeTree(): void {
  const node = `node_modules/node-linux-${process.arch}`;
  put("package.json", "{}");
  put("dist/packages", `${["node_modules/runs", "node_modules/@scope/runs", node].join("\n")}\n`);
  put("dist/daemon/main.js", "");
  put("dist/daemon/old.js", "");
  put("dist/cli/main.js", 'process.stdout.write("completion\\n");');
  for (const name of ["runs", "@scope/runs", "develops"]) put(`node_modules/${name}/index.js`, "");
  put(`${node}/include/node.h`, "");
  put(`${node}/bin/node`, `#!/bin/sh\nexec '${process.execPath}' "$@"\n`);
  chmodSync(join(tree, node, "bin/node"), 0o755);
  mkdirSync(join(tree, "node_modules/.bin"));
  symlinkSync(`../node-linux-${process.arch}/bin/node`, join(tree, "node_modules/.bin/node"));
  cpSync(join(PROJECT, "systemd"), join(tree, "systemd"), { recursive: true });
  cpSync(join(PROJECT, "docs/man"), join(tree, "docs/man"), { recursive: true });
}

function put(path: string, text: string): void {
  mkdirSync(join(tree, path, ".."), { recursive: true });
  writeFileSync(join(tree, path), text);
}
