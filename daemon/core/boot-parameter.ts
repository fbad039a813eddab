/** On the kernel's command line: this boot is released. The escape hatch for whoever stands at the console. */
const RELEASE = "boundary.release=1";

/**
 * Whether a kernel command line releases this boot. As the kernel reads it: words apart by white space, double quotes
 * keep it in, and what follows "--" is for init, not for us.
 */
export function isReleased(commandLine: string): boolean {
  for (const word of wordsOf(commandLine)) {
    if (word === "--") return false;
    if (word === RELEASE) return true;
  }
  return false;
}

function wordsOf(text: string): readonly string[] {
  const words: string[] = [];
  let word = "";
  let quoted = false;
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    if (!quoted && /\s/.test(character)) {
      words.push(word);
      word = "";
    } else word += character;
  }
  return [...words, word].filter((each) => each !== "");
}
