import { z } from "zod";
import type { Properties } from "../core/access.ts";

/**
 * Properties, of what a reader of JSON or YAML gave. Not z.record: that leaves a field named __proto__ out, and what is
 * left out is not refused.
 */
export const PropertiesSchema = z.custom<Properties>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "expected names with values",
);
