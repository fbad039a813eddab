import type { PeerFacts } from "./document.ts";

/** One pre-shared key and who shares it. */
export type SharedKey = { readonly name: string; readonly peer: PeerFacts; readonly key: Buffer };

const DIGITS = Buffer.from("0123456789abcdef");

/**
 * A configuration for strongSwan (swanctl.conf): an IKEv2 connection and a secret for each peer. As bytes, for the caller
 * to wipe: a string cannot be. Names, addresses and identities have been through PeerSchema, which has nothing that
 * could end a line or a section.
 */
export function renderSwanctl(peers: readonly SharedKey[]): Buffer {
  const parts: Buffer[] = [Buffer.from("connections {\n")];
  for (const { name, peer } of peers) parts.push(Buffer.from(connection(name, peer)));
  parts.push(Buffer.from("}\nsecrets {\n"));
  for (const { name, peer, key } of peers) {
    parts.push(
      Buffer.from(`  ike-${name} {\n    id-local = "${peer.localId}"\n    id-remote = "${peer.remoteId}"\n`),
    );
    parts.push(Buffer.from("    secret = 0x"), hex(key), Buffer.from("\n  }\n"));
  }
  parts.push(Buffer.from("}\n"));
  const whole = Buffer.concat(parts);
  for (const part of parts) part.fill(0);
  return whole;
}

function connection(name: string, peer: PeerFacts): string {
  const selectors = [
    ...(peer.localSubnets.length > 0 ? [`        local_ts = ${peer.localSubnets.join(", ")}`] : []),
    ...(peer.remoteSubnets.length > 0 ? [`        remote_ts = ${peer.remoteSubnets.join(", ")}`] : []),
  ];
  return [
    `  ${name} {`,
    "    version = 2",
    `    local_addrs = ${peer.localAddress}`,
    `    remote_addrs = ${peer.remoteAddress}`,
    "    proposals = aes256gcm16-prfsha384-ecp384",
    "    local {",
    "      auth = psk",
    `      id = "${peer.localId}"`,
    "    }",
    "    remote {",
    "      auth = psk",
    `      id = "${peer.remoteId}"`,
    "    }",
    "    children {",
    `      ${name} {`,
    ...selectors,
    "        esp_proposals = aes256gcm16-ecp384",
    "        start_action = trap",
    "      }",
    "    }",
    "  }",
    "",
  ].join("\n");
}

function hex(key: Buffer): Buffer {
  const text = Buffer.alloc(key.length * 2);
  key.forEach((byte, at) => {
    text[2 * at] = DIGITS[byte >> 4] ?? 0;
    text[2 * at + 1] = DIGITS[byte & 15] ?? 0;
  });
  return text;
}
