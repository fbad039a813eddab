/** One measured claim: `value` in `unit`, `ratio` against the rival measured in the same run (1 is as fast as it). */
export type BenchRow = {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  readonly rival: string;
  /** null where there is nothing to hold it against in the same run. */
  readonly ratio: number | null;
  readonly aim: string;
  readonly met: boolean | null;
};
