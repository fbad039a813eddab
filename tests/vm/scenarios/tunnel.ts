import { until } from "../guest.ts";
import type { Stage } from "../stage.ts";

/** Of the pre-shared key, which the test makes: the other end is told it by hand. */
const KEY = "7b1f".repeat(16);
const RUN = "/run/tunnel-test";
/** Each end: its network, this host's address in it, its own, and what is behind it. */
const ENDS = {
  pt: { host: ["10.72.0.1/24", "fd72::1/64"], own: ["10.72.0.2", "fd72::2"], inner: "10.82.0.1" },
  ct: { host: ["10.71.0.1/24", "fd71::1/64"], own: ["10.71.0.2", "fd71::2"], inner: "10.81.0.1" },
} as const;
type End = keyof typeof ENDS;

const ISOLATION = `isolation:
  domains:
    - { name: CT, interfaces: [ct0] }
    - { name: PT, interfaces: [pt0] }
  passes:
    - { between: [PT, CT], protocol: udp, port: 500 }
    - { between: [PT, CT], protocol: udp, port: 4500 }
    - { between: [PT, CT], protocol: esp }
`;

/** A real tunnel of strongSwan's, with a key from the vault, through the domains CT and PT; and nothing beside it. */
export async function tunnel(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(`echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; mkdir -p -m 0700 ${RUN}`);
  for (const end of ["pt", "ct"] as const) await plug(stage, end);
  check("a host without domains forwards between the two", await plainPasses(stage));

  await guest.ok(
    `systemctl stop boundary-daemon
     cat >>/etc/boundary-daemon/config.yaml <<'END'\n${ISOLATION}END
     systemctl start boundary-daemon`,
    300,
  );
  await stage.daemonUp();
  const applied = await stage.ctl("isolation", "apply");
  check("isolation apply ends with 0", applied.code === 0, applied);
  check("then no plain packet passes between PT and CT", await nothingPlain(stage));
  await stage.checkPaths("this host beside the domains", "all");

  await charon(stage, "ct");
  await guest.ok(`cat >${RUN}/ct.swanctl <<'END'\n${OTHER_END}END`);
  const other = await swanctl(stage, "ct", `--load-all --file ${RUN}/ct.swanctl`);
  check("strongSwan at the far end", other.code === 0, other);
  await charon(stage, "pt");
  const made = await stage.ctl("vault", "unlock", "site", "--create", "--kek", "file");
  const unlocked = made.code === 0 ? made : await stage.ctl("vault", "unlock", "site");
  check("an operator unlocks a workspace", unlocked.code === 0, unlocked);
  const added = await guest.run(
    `printf '%s\\n' ${KEY} | runuser -u olga -- boundaryctl peer add ct --workspace site --local-id pt.example --remote-id ct.example --local-address ${ENDS.pt.own[0]} --remote-address ${ENDS.ct.own[0]} --local-subnet ${ENDS.pt.inner}/32 --remote-subnet ${ENDS.ct.inner}/32`,
    240,
  );
  check("and keeps the key that both ends share", added.code === 0, added);
  const exported = await stage.ctl("peer", "export", "--workspace", "site");
  const path = /written\s+(\S+)/.exec(exported.stdout)?.[1] ?? "";
  check("which the daemon writes out for strongSwan", exported.code === 0 && path !== "", exported);
  const mode = await guest.run(`stat -c '%a %U' ${path}; runuser -u olga -- cat ${path}`);
  check("for nobody but root to read", mode.stdout.startsWith("600 ") && !mode.stdout.includes("0x"), mode);
  const loaded = await swanctl(stage, "pt", `--load-all --file ${path}`);
  check("strongSwan takes it", loaded.code === 0 && loaded.stdout.includes("loaded connection 'ct'"), loaded);
  const locked = await stage.ctl("vault", "lock", "site");
  const erased = await guest.run(`test -e ${path}`);
  check("locked, the vault has taken the file away", locked.code === 0 && erased.code === 1, locked);

  const through = await until(() => inner(stage), 60_000, 1_000);
  const sas = await swanctl(stage, "pt", "--list-sas");
  check("a packet from behind PT comes to what is behind CT", through, sas.stdout);
  check(
    "by IKEv2 and ESP",
    /ESTABLISHED, IKEv2/.test(sas.stdout) && /INSTALLED, TUNNEL, ESP/.test(sas.stdout),
    sas.stdout,
  );
  const states = await guest.ok(
    "ip netns exec pt ip -s xfrm state | grep -A1 'lifetime current' | grep -c ' [1-9][0-9]*(bytes)'",
  );
  check("the kernel has counted it in both directions", Number(states) >= 2, states);
  check("and still no plain packet passes", await nothingPlain(stage));
  const mode2 = await stage.ctl("mode", "set", "AIRGAP", "--reason", "the test asks for it");
  check("in AIRGAP the tunnel is closed too", mode2.code === 0 && !(await inner(stage)), mode2);
  await stage.ctl("mode", "set", "RESTRICTED", "--reason", "the test goes on");
  check("and passes again in RESTRICTED", await until(() => inner(stage), 30_000, 1_000));
  await unplug(stage);
}

const OTHER_END = `connections {
  pt {
    version = 2
    local_addrs = ${ENDS.ct.own[0]}
    remote_addrs = ${ENDS.pt.own[0]}
    proposals = aes256gcm16-prfsha384-ecp384
    local { auth = psk
      id = ct.example
    }
    remote { auth = psk
      id = pt.example
    }
    children {
      pt {
        local_ts = ${ENDS.ct.inner}/32
        remote_ts = ${ENDS.pt.inner}/32
        esp_proposals = aes256gcm16-ecp384
      }
    }
  }
}
secrets {
  ike-pt {
    id-local = ct.example
    id-remote = pt.example
    secret = 0x${KEY}
  }
}
`;

/** A host at each end: a namespace on a wire to this one. */
async function plug({ guest }: Stage, end: End): Promise<void> {
  const { host, own, inner: behind } = ENDS[end];
  await guest.ok(
    `ip netns add ${end}
     ip link add ${end}0 type veth peer name wire netns ${end}
     ip addr add ${host[0]} dev ${end}0; ip addr add ${host[1]} dev ${end}0 nodad; ip link set ${end}0 up
     ip -n ${end} addr add ${own[0]}/24 dev wire; ip -n ${end} addr add ${own[1]}/64 dev wire nodad
     ip -n ${end} addr add ${behind}/32 dev lo; ip -n ${end} link set lo up; ip -n ${end} link set wire up
     ip -n ${end} route add default via ${host[0].split("/")[0]}; ip -n ${end} -6 route add default via ${host[1].split("/")[0]}`,
  );
}

async function unplug({ guest }: Stage): Promise<void> {
  await guest.ok(
    `for end in pt ct; do ip netns pids $end | xargs -r kill; ip link del \${end}0; ip netns del $end; done; rm -r ${RUN}`,
  );
}

/** strongSwan's daemon in that namespace, with a control socket of its own. */
async function charon({ guest }: Stage, end: End): Promise<void> {
  await guest.ok(
    `cat >${RUN}/${end}.conf <<'END'
charon-systemd {
  load_modular = yes
  plugins {
    include /etc/strongswan.d/charon/*.conf
    vici {
      load = yes
      socket = unix://${RUN}/${end}.vici
    }
  }
}
END
     STRONGSWAN_CONF=${RUN}/${end}.conf setsid ip netns exec ${end} charon-systemd >${RUN}/${end}.log 2>&1 </dev/null &
     for i in $(seq 120); do [ -S ${RUN}/${end}.vici ] && exit 0; sleep 0.5; done; cat ${RUN}/${end}.log; exit 1`,
    90,
  );
}

function swanctl({ guest }: Stage, end: End, line: string) {
  return guest.run(`swanctl ${line} --uri unix://${RUN}/${end}.vici 2>&1`, 60);
}

/** From behind one end to behind the other, which only the tunnel knows. */
async function inner({ guest }: Stage): Promise<boolean> {
  const line = `ip netns exec pt ping -q -c1 -W3 -I ${ENDS.pt.inner} ${ENDS.ct.inner}`;
  return (await guest.run(line)).code === 0;
}

async function plainPasses(stage: Stage): Promise<boolean> {
  return (await plain(stage)).every((passed) => passed);
}

async function nothingPlain(stage: Stage): Promise<boolean> {
  return !(await plain(stage)).includes(true);
}

/** Both ways, IPv4 and IPv6. */
async function plain({ guest }: Stage): Promise<readonly boolean[]> {
  const ways = (["pt", "ct"] as const).flatMap((from) => {
    const to = ENDS[from === "pt" ? "ct" : "pt"];
    return to.own.map((address) => `ip netns exec ${from} ping -q -c1 -W2 ${address} >/dev/null; echo $?`);
  });
  const said = await guest.ok(ways.join("\n"), 60);
  return said
    .trim()
    .split("\n")
    .map((code) => code === "0");
}
