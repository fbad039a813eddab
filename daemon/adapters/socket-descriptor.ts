/** The descriptor of a connected socket; null when it has none any more. Node has no public way to it. */
export function descriptorOf(socket: object): number | null {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : null;
  return typeof fd === "number" && fd >= 0 ? fd : null;
}
