import { BoundaryError, type ErrorCode } from "../daemon/core/errors.ts";

/** 0 done, 1 refused or a failed check, 2 usage, 3 no daemon (or none that answers); or what a command that was run ended with. */
export type ExitCode = 0 | 1 | 2 | 3 | CommandExit;
/** Of a guarded command: any code. Made by `commandExit` alone. */
export type CommandExit = number & { readonly of: "command" };

export function commandExit(code: number): CommandExit {
  return code as CommandExit;
}

const NOT_ONE: Partial<Record<ErrorCode, ExitCode>> = {
  "argument-invalid": 2,
  "key-invalid": 2,
  "head-invalid": 2,
  "no-daemon": 3,
  deadline: 3,
};

/** The exit code that an error code stands for. */
export function exitCodeOf(code: ErrorCode): ExitCode {
  return NOT_ONE[code] ?? 1;
}

/** A mistake in how we were called: exit code 2. */
export function usageError(what: string): BoundaryError {
  return new BoundaryError("argument-invalid", what);
}
