import { z } from "zod";
import type { Properties } from "../core/access.ts";
import { propertyProblem, textProblem } from "./properties.ts";

/** What a question is made of, on either socket. */
const textUpTo = (most: number) =>
  z.string().check((context) => {
    const why = context.value === "" ? "empty" : textProblem(context.value, most);
    if (why !== null) context.issues.push({ code: "custom", message: why, input: context.value });
  });
export const Type = textUpTo(128);
export const Id = textUpTo(1_024);
export const PropertiesSchema = z
  .custom<Properties>((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
    message: "not an object",
    abort: true,
  })
  .check((context) => {
    const why = propertyProblem(context.value);
    if (why !== null) context.issues.push({ code: "custom", message: why, input: context.value });
  })
  .optional();
