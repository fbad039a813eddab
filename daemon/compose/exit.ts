/** What a process of ours ends with; the man page has them. */
export const EXIT = { stopped: 0, failed: 1, usage: 2, noStart: 3 } as const;
