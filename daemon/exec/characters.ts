/** What no command may hold, because a person who reads it would not see what it is. */

const MAX_ARGUMENT = 131_072; // the kernel's MAX_ARG_STRLEN
/** Format characters (joiners, direction, tags), fillers that are drawn as nothing, line ends of Unicode, what is no character. */
const UNSEEN =
  /[\p{Cf}\p{Cs}\p{Co}\p{Noncharacter_Code_Point}\p{Default_Ignorable_Code_Point}\u2028\u2029\u2800]/u;
/** An emoji is drawn by such characters, and they are seen as it. */
const EMOJI = /\p{Extended_Pictographic}\ufe0f?(?:\u200d\p{Extended_Pictographic}\ufe0f?)*/gu;
const BLANK = /[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/;
const DASH_LIKE =
  /^[\u00ad\u02d7\u058a\u2010-\u2015\u2043\u207b\u208b\u2212\u2796\u2e3a\u2e3b\u30fc\ufe58\ufe63\uff0d]/;

/** Why a program's name is refused; null when it can be looked at. Names are printable ASCII: no letter looks like another. */
export function faultOfName(name: string): string | null {
  if (name === "") return "the program has no name";
  if (name.length > 4096) return "the program's name is longer than a path can be";
  if (!/^[!-~]+$/.test(name)) return "the program's name holds something else than printable ASCII";
  return null;
}

/** Why an argument is refused; null when it can be looked at. Meant for the text as it was given, before it is normalised. */
export function faultOfArgument(text: string): string | null {
  if (text.length > MAX_ARGUMENT) return "an argument is longer than the kernel takes";
  // line ends and tabs are part of a message; the other control characters steer a terminal or end a string
  if (/\p{Cc}/u.test(text.replace(/[\n\t]/g, ""))) return "an argument holds a control character";
  if (/^[\n\t -~]*$/.test(text)) return null;
  const plain = text.replace(EMOJI, "");
  if (UNSEEN.test(plain)) return "an argument holds a character that is not seen";
  if (BLANK.test(plain)) return "an argument holds a blank that is no space";
  if (DASH_LIKE.test(plain)) return "an argument begins with what looks like a dash";
  return looksLikeSyntax(plain) ? "an argument holds what looks like a path or an option" : null;
}

/** Full-width and other forms that some programs take for "/", "." or "$". The ellipsis is prose. */
function looksLikeSyntax(text: string): boolean {
  const given = text.replaceAll("\u2026", "");
  const meant = given.normalize("NFKC");
  if (meant.startsWith("-") && !given.startsWith("-")) return true;
  return ["/", "\\", "..", "$", "`", ";", "|", "&"].some(
    (sign) => meant.split(sign).length > given.split(sign).length,
  );
}
