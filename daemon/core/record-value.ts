import type { Data, Value } from "../audit/record.ts";

/** What a record holds, as it was written or by whoever wrote it: read field by field. */

/** Whether it is an object of fields. */
export function isData(value: Value | null | undefined): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether it is a whole number, 0 or more. */
export function isCount(value: Value | undefined): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** Each item of a list, read; null when it is no list, or one cannot be read. */
export function readList<T>(value: Value | undefined, read: (one: Data) => T | null): readonly T[] | null {
  if (!Array.isArray(value)) return null;
  const list: T[] = [];
  for (const one of value as readonly Value[]) {
    const item = isData(one) ? read(one) : null;
    if (item === null) return null;
    list.push(item);
  }
  return list;
}
