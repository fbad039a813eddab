/** Control characters, all format characters (direction, joiners, tags), line ends of Unicode, halves of a pair. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** Text from outside as one line that cannot steer a terminal: control and format characters are shown escaped, "\u001b". */
export function escapeControls(text: string): string {
  return text.replace(UNSAFE, escapeCharacter);
}

/** In UTF-16 units, the one form that JSON reads back as the same text. */
function escapeCharacter(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}
