import type { Flow } from "../../daemon/core/flow.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import type { Input } from "../../daemon/core/state.ts";
import { ANA, settled, type startHost } from "./host.ts";

/** What ana asks of a daemon on fakes that concerns modes and the hold. */
export type Host = Awaited<ReturnType<typeof startHost>>;

export const SSH: Flow = {
  family: 4,
  localAddress: "10.0.0.1",
  localPort: 22,
  remoteAddress: "10.0.0.9",
  remotePort: 50_000,
};

export const enforce = (host: Host, confirmMs: number | null = null) =>
  host.daemon.ask((request) => ({ kind: "enforce", request, by: ANA, reason: "test", confirmMs }));
export const set = (host: Host, to: Mode, over: Partial<Extract<Input, { kind: "set-mode" }>>) =>
  host.daemon.ask((request) => ({
    kind: "set-mode",
    request,
    to,
    by: ANA,
    reason: "test",
    forMs: null,
    confirmMs: null,
    keep: null,
    ...over,
  }));
export const later = async (host: Host, ms: number) => {
  host.clock.pass(ms);
  host.daemon.tick();
  await settled();
};
export const beginRelease = async (host: Host) => {
  await host.daemon.ask((request) => ({
    kind: "ceremony-begin",
    request,
    purpose: "release",
    id: "c1",
    codeDigest: "right",
    by: ANA,
    reason: "r",
  }));
  host.clock.pass(1_000);
};
export const confirmRelease = (host: Host) =>
  host.daemon.ask((request) => ({ kind: "ceremony-confirm", request, codeDigest: "right", by: ANA }));
