import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseSealed, renderDocument, type SealedDocument } from "../../daemon/vault/document.ts";
import { addWrap, type Header, keepWrap, seal, unseal } from "../../daemon/vault/envelope.ts";
import { localKek } from "../../daemon/vault/kek-local.ts";

const HEADER: Header = {
  kind: "secret",
  workspace: "build",
  name: "deploy",
  version: 3,
  created: "2026-01-01T00:00:00.000Z",
  fingerprint: "0123456789abcdef",
};
const PEER = {
  localAddress: "192.0.2.1",
  remoteAddress: "%any",
  localId: "pt.example",
  remoteId: "ct.example",
  localSubnets: ["10.0.0.0/8"],
  remoteSubnets: [],
};
const kek = (id = "kek-0000000000000001", fill = 7) => localKek(id, Buffer.alloc(32, fill));
const refused = { code: "secret-damaged" };

describe("a sealed secret", () => {
  test("comes back as it was, whatever it is", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 0, maxLength: 2_000 }), async (plain) => {
        const sealed = await seal(plain, HEADER, kek());
        const read = parseSealed(renderDocument(sealed));
        expect(read).toEqual({ ok: true, value: sealed });
        expect((await unseal(sealed, kek())).equals(plain)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  test("is another one each time: its own key, nonce and text", async () => {
    const [one, two] = [
      await seal(Buffer.from("same"), HEADER, kek()),
      await seal(Buffer.from("same"), HEADER, kek()),
    ];
    for (const field of ["dek", "nonce", "ciphertext", "tag"] as const)
      expect(one[field]).not.toBe(two[field]);
    expect(one.wraps[0]?.wrapped).not.toBe(two.wraps[0]?.wrapped);
  });

  const other: { readonly [Field in keyof SealedDocument]?: SealedDocument[Field] } = {
    kind: "psk",
    workspace: "other",
    name: "other",
    version: 4,
    created: "2026-01-02T00:00:00.000Z",
    fingerprint: "0123456789abcdee",
    dek: "dek-0000000000000000",
    peer: { ...PEER, remoteAddress: "192.0.2.2" },
  };
  test.each(Object.entries(other))("does not open with another %s", async (field, value) => {
    const sealed = await seal(Buffer.from("a secret"), { ...HEADER, peer: PEER }, kek());
    await expect(unseal({ ...sealed, [field]: value }, kek())).rejects.toMatchObject(refused);
    await expect(unseal(sealed, kek())).resolves.toEqual(Buffer.from("a secret"));
  });

  test("does not open when a byte of nonce, text, tag or key is another", async () => {
    const sealed = await seal(Buffer.from("a secret of some length"), HEADER, kek());
    const flip = (text: string, at: number) => {
      const bytes = Buffer.from(text, "base64");
      bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ 1;
      return bytes.toString("base64");
    };
    for (let at = 0; at < 48; at++) {
      const [wrap] = sealed.wraps;
      const altered: SealedDocument[] = [
        { ...sealed, nonce: flip(sealed.nonce, at) },
        { ...sealed, ciphertext: flip(sealed.ciphertext, at) },
        { ...sealed, tag: flip(sealed.tag, at) },
        { ...sealed, wraps: [{ kek: wrap?.kek ?? "", wrapped: flip(wrap?.wrapped ?? "", at) }] },
      ];
      for (const one of altered) await expect(unseal(one, kek())).rejects.toMatchObject(refused);
    }
  });

  test("does not open under another KEK, by name or by key, or with another secret's wrapped key", async () => {
    const [sealed, another] = [
      await seal(Buffer.from("one"), HEADER, kek()),
      await seal(Buffer.from("two"), { ...HEADER, name: "another" }, kek()),
    ];
    await expect(unseal(sealed, kek("kek-0000000000000002"))).rejects.toMatchObject(refused);
    await expect(unseal(sealed, kek("kek-0000000000000001", 8))).rejects.toMatchObject(refused);
    await expect(unseal({ ...sealed, wraps: another.wraps }, kek())).rejects.toMatchObject(refused);
  });
});

test("a change of the KEK touches no ciphertext", async () => {
  const [from, to] = [kek(), kek("kek-0000000000000002", 9)];
  const sealed = await seal(Buffer.from("kept"), HEADER, from);
  const both = await addWrap(sealed, from, to);
  expect({ ...both, wraps: [] }).toEqual({ ...sealed, wraps: [] });
  expect(await unseal(both, from)).toEqual(await unseal(both, to));
  await expect(unseal(keepWrap(both, to.id), from)).rejects.toMatchObject(refused);
  expect((await unseal(keepWrap(both, to.id), to)).toString()).toBe("kept");
});

test("a KEK that was dropped is overwritten, and does nothing more", async () => {
  const bytes = Buffer.alloc(32, 7);
  const held = localKek("kek-0000000000000001", bytes);
  const sealed = await seal(Buffer.from("x"), HEADER, held);
  held.drop();
  expect(bytes).toEqual(Buffer.alloc(32));
  await expect(unseal(sealed, held)).rejects.toMatchObject({ code: "vault-locked" });
  await expect(held.wrap(Buffer.alloc(32))).rejects.toMatchObject({ code: "vault-locked" });
});
