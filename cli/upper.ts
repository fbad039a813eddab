/**
 * Choices that are in capitals are taken in any case. What is given more than once comes here as a list, whatever yargs'
 * types say: of that command.ts takes the last.
 */
export function upper<T extends string | undefined>(given: T): T {
  const each = (text: unknown): unknown => (typeof text === "string" ? text.toUpperCase() : text);
  return (Array.isArray(given) ? given.map(each) : each(given)) as T;
}
