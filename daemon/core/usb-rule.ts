import type { UsbFacts, UsbTarget } from "./usb-facts.ts";

/**
 * What a rule of USBGuard's language (usbguard-rules.conf(5)) is, once parsed. usb-rule-parse.ts makes it,
 * usb-rule-render.ts writes it, usb-rule-match.ts answers with it.
 */
export type UsbRule = {
  /** The line it stands on in its file, from 1. */
  readonly line: number;
  readonly target: UsbTarget;
  /** In the order of the file, each name once. All of them must match. None: the rule matches every device. */
  readonly attributes: readonly UsbAttribute[];
  readonly conditions: UsbConditions | null;
  /** Says something to a reader; never asked of a device. */
  readonly label: UsbValues | null;
};

export const USB_ATTRIBUTES = [
  "id",
  "hash",
  "parent-hash",
  "name",
  "serial",
  "via-port",
  "with-interface",
  "with-connect-type",
] as const;
export type UsbAttributeName = (typeof USB_ATTRIBUTES)[number];

export const USB_OPERATORS = [
  "all-of",
  "one-of",
  "none-of",
  "equals",
  "equals-ordered",
  "match-all",
] as const;
export type UsbOperator = (typeof USB_OPERATORS)[number];

/** `operator { value … }`, at least one value. A single value without braces is `equals` of one. */
export type UsbValues = { readonly operator: UsbOperator; readonly values: readonly string[] };

/** The values of `id` ("1d6b:*") and `with-interface` ("08:*:*") are lower case. */
export type UsbAttribute = UsbValues & { readonly name: UsbAttributeName };

/** `if operator { [!]test … }`, at least one test. `equals` (and none given) and `equals-ordered` mean `all-of`. */
export type UsbConditions = {
  readonly operator: Exclude<UsbOperator, "match-all">;
  readonly list: readonly UsbCondition[];
};

export type UsbCondition = { readonly negated: boolean; readonly test: UsbTest };

export type UsbTest =
  | { readonly kind: "constant"; readonly value: boolean }
  /** Is a device that is allowed now among those that the query matches? */
  | { readonly kind: "allowed-matches"; readonly query: readonly UsbAttribute[] }
  /** Seconds of the local day, the first and the last that are in the window. From after to: over midnight. */
  | { readonly kind: "localtime"; readonly from: number; readonly to: number }
  /** Did this rule decide about a device, ever (null) or in the last so many seconds? */
  | { readonly kind: "rule-applied"; readonly seconds: number | null }
  /** Did this rule's attributes match a device, ever (null) or in the last so many seconds? */
  | { readonly kind: "rule-evaluated"; readonly seconds: number | null }
  /** Millionths: 500,000 is one half. */
  | { readonly kind: "random"; readonly millionths: number };

/** What there is to know besides the device. Everything of the world comes in here: no clock, no chance, no state. */
export type EvaluateContext = {
  /** Wall clock, milliseconds since 1970. */
  readonly nowMs: number;
  /** A clock that nobody can set; of the same kind as what `applied` and `evaluated` answer. */
  readonly monoMs: number;
  /** Minutes that local time is ahead of UTC at a moment (wall, milliseconds): 60 for CET, 120 for CEST. */
  readonly localOffsetMinutes: (atMs: number) => number;
  /** From 0 up to but not 1, a new one at each call. */
  readonly random: () => number;
  /** The devices that are authorised now, without the one that is asked about. */
  readonly allowedDevices: readonly UsbFacts[];
  /**
   * When the rule of this key (usb-rule-render.ts) last decided about a device, or was last asked about one, in monoMs;
   * null: never. Where a device is looked at once more, what counts is what happened before it was plugged in: else
   * `allow if !rule-applied` would take back what it just gave.
   */
  readonly applied: (key: string) => number | null;
  readonly evaluated: (key: string) => number | null;
};

export type UsbDecision = {
  readonly target: UsbTarget;
  /** null: no rule matched, and what no rule matches is blocked. */
  readonly rule: UsbRule | null;
  readonly why: string;
  /**
   * Wall clock: until then no condition that was asked on the way here changes by time alone. Ask again at that moment;
   * null: time changes nothing. What changes otherwise (another device, a rule applied, the clock set) is not in it.
   */
  readonly validUntilMs: number | null;
};

/** One line of `usb explain`: did this rule match the device, and what of it did or did not. */
export type UsbExplanation = { readonly rule: UsbRule; readonly matched: boolean; readonly because: string };
