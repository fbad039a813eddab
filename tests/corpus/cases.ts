import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { parseExact } from "../../daemon/policy/cedar-exact.ts";
import { readTarGz } from "./tar.ts";

/** Cedar's published integration tests: see data/README.md, which came with them. */
const UID = z.object({ type: z.string(), id: z.string() });
const CASE = z.object({
  policies: z.string(),
  entities: z.string(),
  schema: z.string(),
  shouldValidate: z.boolean(),
  requests: z.array(
    z.object({
      description: z.string(),
      principal: UID,
      action: UID,
      resource: UID,
      context: z.record(z.string(), z.unknown()),
      validateRequest: z.boolean().optional(),
      decision: z.enum(["allow", "deny"]),
      reason: z.array(z.string()),
      errors: z.array(z.string()),
    }),
  ),
});
export type Case = { readonly name: string } & z.infer<typeof CASE>;
export type Corpus = { readonly cases: readonly Case[]; readonly text: (path: string) => string };

const DATA = join(import.meta.dirname, "data");

/** All cases, hand-written first, and the texts that they name. */
export function readCorpus(): Corpus {
  const packed = readTarGz(readFileSync(join(DATA, "corpus-tests.tar.gz")));
  const text = (path: string) => packed.get(path) ?? readFileSync(join(DATA, path), "utf8");
  const written = readdirSync(join(DATA, "tests"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".json"))
    .map((path) => join("tests", path))
    .sort();
  const generated = [...packed.keys()].filter(
    (path) => path.endsWith(".json") && !path.endsWith(".entities.json"),
  );
  // the context stays as it was parsed: a schema library would lose a field named __proto__
  const cases = [...written, ...generated].map((name) => {
    const json = parseExact(text(name)) as { requests: readonly { context: Record<string, unknown> }[] };
    const read = CASE.parse(json);
    const requests = read.requests.map((request, at) => ({
      ...request,
      context: json.requests[at]?.context ?? {},
    }));
    return { name, ...read, requests };
  });
  return { cases, text };
}
