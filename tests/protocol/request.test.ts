import { expect, test } from "vitest";
import { parseRequest } from "../../daemon/protocol/request.ts";

const message = (type: string, data: unknown) => ({ kind: "message", type, data }) as const;
const rows: readonly [name: string, frame: Parameters<typeof parseRequest>[0], id: string, code: string][] = [
  ["a frame that was not read", { kind: "bad", code: "json-invalid", fatal: false }, "", "json-invalid"],
  ["another type", message("event", { id: "7", verb: "status" }), "7", "request-invalid"],
  ["a reserved type", message("close", { id: "7", verb: "status" }), "7", "request-invalid"],
  ["no id", message("request", { verb: "status" }), "", "request-invalid"],
  ["an id that is no text", message("request", { id: 7, verb: "status" }), "", "request-invalid"],
  ["a long id", message("request", { id: "7".repeat(65), verb: "status" }), "", "request-invalid"],
  ["no verb", message("request", { id: "7" }), "7", "request-invalid"],
  ["an unknown field", message("request", { id: "7", verb: "status", uid: 0 }), "7", "request-invalid"],
  ["no object", message("request", null), "", "request-invalid"],
];

test.each(rows)("%s is refused, with the id as far as it was legible", (_name, frame, id, code) => {
  expect(parseRequest(frame)).toMatchObject({ ok: false, id, problem: { code } });
});

test("a refusal of a very long field stays short", () => {
  const parsed = parseRequest(message("request", { id: "7", verb: "status", ["x".repeat(60_000)]: 1 }));
  expect(JSON.stringify(parsed).length).toBeLessThan(1_000);
});

test("a request comes through with its parameters untouched", () => {
  const request = { id: "7", verb: "check", params: { anything: [1] } };
  expect(parseRequest(message("request", request))).toEqual({ ok: true, request });
});
