import { BoundaryError } from "../daemon/core/errors.ts";
import { importUsbGuard } from "../daemon/core/usb-rule-import.ts";
import { define } from "./command.ts";
import { usageError } from "./exit.ts";
import { plain, printJson, printLines } from "./output.ts";
import { readSmallFile } from "./read-file.ts";
import { checkUsbRules, renderUsbCheck } from "./usb-check.ts";

const MAX_RULES_BYTES = 1_048_576;

/** `boundaryctl usb check FILE`: without a daemon. Exit code 1 where a daemon would not take the file. */
export const check = define({
  usage: "check <file>",
  describe: "Look for mistakes in a file of rules, without a daemon",
  examples: [["boundaryctl usb check /etc/boundary-daemon/usb.rules", "line and column of each"]],
  options: (yargs) => yargs.positional("file", FILE),
  run: async (args) => {
    const found = checkUsbRules(readRules(args.file));
    if (args.json) printJson(found);
    else printLines(renderUsbCheck(found, args.file).map(plain));
    return found.ok ? 0 : 1;
  },
});

const FILE = { type: "string", demandOption: true, describe: "A file of rules" } as const;

/** `boundaryctl usb import FILE`: the rules to stdout, what is otherwise than in USBGuard to stderr. */
export const importRules = define({
  usage: "import <file>",
  describe: "Read the rules of USBGuard, say what means something else here, and print them",
  examples: [["boundaryctl usb import /etc/usbguard/rules.conf > usb.rules", "take them over"]],
  options: (yargs) => yargs.positional("file", FILE),
  run: async (args) => {
    const text = readRules(args.file);
    const found = importUsbGuard(text);
    if (args.json) {
      printJson(found);
      return found.ok ? 0 : 1;
    }
    if (!found.ok) {
      printLines(
        renderUsbCheck({ ok: false, rules: 0, problems: found.problems, warnings: [] }, args.file).map(plain),
      );
      return 1;
    }
    for (const { line, message } of found.warnings)
      process.stderr.write(`${plain(`${args.file}:${line}: warning: ${message}`)}\n`);
    printLines(found.text.replace(/\n$/, "").split("\n").map(plain));
    return 0;
  },
});

function readRules(path: string): string {
  const bytes = readFile(path);
  if (bytes === null) throw usageError(`there is no file ${path}`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new BoundaryError("usb-rules-invalid", `${path} is not UTF-8`, { cause });
  }
}

function readFile(path: string): Buffer | null {
  try {
    return readSmallFile(path, MAX_RULES_BYTES);
  } catch (cause) {
    throw new BoundaryError("usb-rules-invalid", `reading ${path}`, { cause });
  }
}
