/** A message as RFC 5424 has it. Written apart from what writes them. */
export type SyslogMessage = {
  readonly priority: number;
  readonly timestamp: string;
  readonly hostname: string;
  readonly appName: string;
  readonly procId: string;
  readonly msgId: string;
  readonly data: Readonly<Record<string, string>>;
  /** Without byte order mark. */
  readonly message: string;
};

/** Reads one message by the grammar of RFC 5424 section 6, strictly. Throws on anything else. */
export function parseSyslog(text: string): SyslogMessage {
  const head =
    /^<(0|[1-9]\d{0,2})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) /.exec(
      text,
    );
  if (head === null || Number(head[1]) > 191) throw new Error(`no RFC 5424 header: ${text.slice(0, 200)}`);
  const [whole, priority, timestamp = "", hostname = "", appName = "", procId = "", msgId = ""] = head;
  const { data, end } = readData(text, whole.length);
  if (end < text.length && text[end] !== " ") throw new Error("no blank after the structured data");
  const message = text.slice(end + 1).replace(/^\ufeff/, "");
  return { priority: Number(priority), timestamp, hostname, appName, procId, msgId, data, message };
}

/** "-", or one element: "[id name="value" …]". */
function readData(text: string, start: number): { data: Record<string, string>; end: number } {
  if (text[start] === "-") return { data: {}, end: start + 1 };
  const id = /\[[!#-<>-\\^-~]{1,32}/y;
  id.lastIndex = start;
  if (id.exec(text) === null) throw new Error("no structured data");
  const data: Record<string, string> = {};
  const name = / ([!#-<>-\\^-~]{1,32})="/y;
  for (let at = id.lastIndex; ; ) {
    if (text[at] === "]") return { data, end: at + 1 };
    name.lastIndex = at;
    const found = name.exec(text)?.[1];
    if (found === undefined) throw new Error("no parameter where one has to be");
    const value = readValue(text, name.lastIndex);
    data[found] = value.value;
    at = value.end;
  }
}

/** Up to the quote that no backslash escapes. */
function readValue(text: string, start: number): { value: string; end: number } {
  let value = "";
  for (let at = start; at < text.length; at++) {
    const [one = "", two = ""] = [text[at], text[at + 1]];
    if (one === '"') return { value, end: at + 1 };
    if (one === "]") throw new Error("a bare ] in a value");
    const escapes = one === "\\" && two !== "" && '"\\]'.includes(two);
    value += escapes ? two : one;
    if (escapes) at++;
  }
  throw new Error("a value without end");
}

/** Takes RFC 5425 frames out of a stream of bytes. Throws on what is none. */
export function createFrameCutter(onMessage: (text: string) => void): (bytes: Buffer) => void {
  let held: Buffer = Buffer.alloc(0);
  return (bytes) => {
    held = Buffer.concat([held, bytes]);
    for (;;) {
      const blank = held.subarray(0, 8).indexOf(" ");
      if (blank === -1) {
        if (held.length >= 8) throw new Error("no length before a frame");
        return;
      }
      const digits = held.toString("latin1", 0, blank);
      if (!/^[1-9]\d{0,5}$/.test(digits)) throw new Error(`not a length: ${digits}`);
      const end = blank + 1 + Number(digits);
      if (held.length < end) return;
      onMessage(held.toString("utf8", blank + 1, end));
      held = held.subarray(end);
    }
  };
}
