import { fixtureService } from "./authzen-fixture.ts";
import { LIMITS, startDecide } from "./decide-server.ts";

/**
 * decide.sock before the fixture, as a process of its own: `node tests/support/decide-process.ts '{"maxConnections":…}'`
 * prints its path, and for each line on stdin how many connections it has. It ends when its stdin does.
 */
const limits = { ...LIMITS, ...(JSON.parse(process.argv[2] ?? "{}") as Partial<typeof LIMITS>) };
const server = await startDecide(fixtureService(), { limits });
process.stdout.write(`${server.path}\n`);
process.stdin.on("data", () => void process.stdout.write(`${server.socket.connections()}\n`));
process.stdin.on("end", () => void server.stop().then(() => process.exit(0)));
