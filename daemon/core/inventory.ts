/** What the host is, for a person to look at. Facts, not evidence: the sensors do not depend on it. */
export type Inventory = {
  /** RFC 3339. */
  readonly takenAt: string;
  readonly system: {
    readonly manufacturer: string;
    readonly model: string;
    readonly virtual: boolean;
    readonly kernel: string;
    readonly arch: string;
  };
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac: string;
    readonly state: string;
    readonly type: string;
    readonly virtual: boolean;
    readonly speedMbit: number;
  }[];
};
