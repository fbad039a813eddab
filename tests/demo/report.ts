import { styleText } from "node:util";

/** Tells the story as it happens. A step that does not come out as told ends it. */
export type Report = {
  step(number: number, title: string): void;
  /** What was seen, and whether it is what was told. Throws StoryBroken when it is not. */
  saw(what: string, asTold: boolean, detail?: string): void;
  note(text: string): void;
  readonly checks: () => number;
};

export class StoryBroken extends Error {}

export function createReport(): Report {
  const colour = process.stdout.isTTY && process.env["NO_COLOR"] === undefined;
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    colour ? styleText(style, text) : text;
  const begunMs = performance.now();
  let checks = 0;
  return {
    step(number, title) {
      const seconds = ((performance.now() - begunMs) / 1_000).toFixed(1).padStart(5);
      console.log(`\n${paint("dim", `${seconds} s`)}  ${paint("bold", `${number}. ${title}`)}`);
    },
    saw(what, asTold, detail = "") {
      checks += 1;
      const mark = asTold ? paint("green", "ok  ") : paint("red", "FAIL");
      console.log(`         ${mark} ${what}${detail === "" ? "" : paint("dim", `  ${detail}`)}`);
      if (!asTold) throw new StoryBroken(what);
    },
    note: (text) => console.log(`         ${paint("dim", text)}`),
    checks: () => checks,
  };
}
