/** What the watched directories report. `directory` is the path it was armed under. */
export type DirectoryHandlers = {
  /**
   * The kernel names an entry of it, or the directory itself. "entry": it was made, moved or removed; "inside": its
   * content or attributes changed.
   */
  readonly event: (directory: string, name: string, what: "entry" | "inside") => void;
  /** The path leads to another directory than the one watched, or to none. */
  readonly moved: (directory: string) => void;
  /** It changed and no event said so: the kernel dropped some, or this file system has none. */
  readonly silent: (directory: string) => void;
  /** So many events at once that the kernel may have dropped others. */
  readonly flooded: (events: number) => void;
  /** A directory that cannot be watched, or can again (null). */
  readonly trouble: (directory: string, why: string | null) => void;
};

/** Directories watched by kernel events. Built on `fs.watch`; a fake can fail like a kernel without watches. */
export interface DirectoryWatch {
  open(handlers: DirectoryHandlers): void;
  /**
   * Watches a directory; again after it was replaced. "contents": also compare its times, to notice what came
   * without an event. "way": only whether it is still the same directory. False when it is not there, or failed.
   */
  arm(directory: string, as: "contents" | "way"): boolean;
  /** Is the path still the directory that was armed? Reports `moved` and disarms it if not. */
  verify(directory: string): void;
  disarm(directory: string): void;
  armed(): ReadonlySet<string>;
  close(): void;
}
