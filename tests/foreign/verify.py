#!/usr/bin/env python3
"""A verifier of boundary-daemon's log that shares no code with it, written from docs/LOG_FORMAT.md alone.

    verify.py LOG --key KEY [--head HEAD]...      or: verify.py --batch

LOG is a directory, or one file with all segments in order. KEY is the genesis key (name+hash+base64) or a file with it.
HEAD, kept elsewhere, is "SIZE ROOT" (hex), or a signed note or a file with one. --batch reads lines of JSON: {"log": …,
"key": …, "heads": […]}. Prints "sound", "torn" or "broken", and why. Exit 0: sound. 1: not. 2: usage. Needs Python 3.9
and python3-cryptography.
"""
import argparse, base64, contextlib, copy, datetime, hashlib, json, os, re, sys, time
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_LINE, MAX_BATCH, MAX_DEPTH, MAX_TRIPWIRES, MAX_BLOCKS, MAX_APPROVALS = 65_535, 4 * 1024 * 1024, 32, 1024, 48, 16
MODES = ("OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN")
QUIET = ("seal", "log.alive", "log.snapshot", "log.rotated", "log.segment", "token.state")
MAX_STATE = 7 * 512 * 1024  # of a batch, beside the rest: records that go with a snapshot
FIELDS = ["at", "boot", "data", "kind", "mono", "prev", "seq", "v"]
FORMS = {"boot": r"[0-9a-z-]{1,64}", "kind": r"[0-9a-z.-]{1,64}", "mono": r"0|[1-9][0-9]{0,19}", "prev": "[0-9a-f]{64}",
         "at": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"}
NOTE = r"(([^\n]+)\n(0|[1-9][0-9]{0,15})\n([^\n]+)\n)\n((?:\u2014 [^ \n]+ [^ \n]+\n)+)"
NEW_FOLD = {"wanted": "", "epoch": 0, "frozen": "", "stop": "none", "lastAt": "", "lastSeq": -1, "lastBoot": "",
            "lastMono": "", "baselineDigest": "", "firedByTripwire": {}, "started": 0, "unreadable": ""}
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ORDER_8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826  # a y whose order is 8
SMALL_Y = {0, 1, P - 1, ORDER_8, P - ORDER_8}  # the y of all points whose order divides 8
class Fault(Exception):
    """The log is broken: a code of docs/LOG_FORMAT.md, and what was seen."""
def need(good, code, why=""):
    if not good: raise Fault(code, why)
@contextlib.contextmanager
def otherwise(code):
    """What cannot even be read is this fault."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise Fault(code, repr(error)) from None
def sha256(data): return hashlib.sha256(data).digest()
def ordered(value, depth):
    if isinstance(value, str) or (type(value) is int and abs(value) <= 2**53 - 1): return value
    need(isinstance(value, (dict, list)) and depth > 0, "json-invalid", f"what may not be, or too deep: {value!r:.40}")
    if isinstance(value, list): return [ordered(item, depth - 1) for item in value]
    return {key: ordered(value[key], depth - 1) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
def canonical(line, depth):
    """The value of a line of bytes that is exactly its canonical form. Of a key that stands twice one is left."""
    with otherwise("json-invalid"):  # lone surrogates too
        value = json.loads(line.decode("utf-8"))
        again = json.dumps(ordered(value, depth), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    need(again == line, "json-invalid", "not in canonical form")
    return value
def record_of(line):
    record = canonical(line, MAX_DEPTH + 1)
    need(isinstance(record, dict) and list(record) == FIELDS and len(line) <= MAX_LINE, "record-shape", "its fields")
    texts = all(isinstance(record[name], str) and re.fullmatch(form, record[name]) for name, form in FORMS.items())
    numbers = record["v"] == 1 and isinstance(record["seq"], int) and record["seq"] >= 0
    need(texts and numbers and isinstance(record["data"], dict), "record-shape", "its values")
    return record
class Tree:
    """An RFC 6962 tree of which the frontier is kept."""
    def __init__(self, size=0, frontier=()):
        self.size, self.frontier = size, list(frontier)
    def add(self, leaf):
        size, self.size = self.size, self.size + 1
        while size & 1: leaf, size = sha256(b"\1" + self.frontier.pop() + leaf), size >> 1
        self.frontier.append(leaf)
    def root(self):
        root = self.frontier[-1] if self.frontier else sha256(b"")
        for left in reversed(self.frontier[:-1]):
            root = sha256(b"\1" + left + root)
        return root
def strict_base64(text):
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text: raise ValueError("base64 that is not the one text")
    return raw
def good_point(encoded):  # canonical, not of small order; whether it is on the curve the library says
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return y < P and y not in SMALL_Y
class Key:
    """A C2SP verifier key, name+hash+base64; ValueError when it is none, or a weak one."""
    def __init__(self, text):
        self.text = text
        self.name, key_hash, encoded = text.split("+", 2)
        raw = strict_base64(encoded)
        self.id = sha256(self.name.encode() + b"\n" + raw)[:4]
        strict = len(raw) == 33 and raw[0] == 1 and good_point(raw[1:])
        strict = strict and self.name and not re.search(r"\s", self.name) and self.id.hex() == key_hash
        if not strict: raise ValueError("no strict Ed25519 verifier key")
        self.public = Ed25519PublicKey.from_public_bytes(raw[1:])
class Head:
    """Size and root of a tree: of a checkpoint in a signed note, or bare ("SIZE ROOT"). ValueError when it is neither."""
    def __init__(self, text):
        bare, note = re.fullmatch("([0-9]{1,16}) ([0-9a-f]{64})", text), re.fullmatch(NOTE, text.rstrip("\0"))
        if bare: self.size, self.root, self.signatures = int(bare[1]), bytes.fromhex(bare[2]), None
        elif note:
            self.text, self.origin, self.size, self.root = note[1], note[2], int(note[3]), strict_base64(note[4])
            lines = [line.split(" ") for line in note[5].splitlines()]
            self.signatures = [(name, strict_base64(encoded)) for _, name, encoded in lines]
        if not (bare or note) or len(self.root) != 32: raise ValueError("no size and root, and no signed checkpoint")
    def signed_by(self, key):
        own = [raw[4:] for name, raw in self.signatures if (name, raw[:4]) == (key.name, key.id)]
        strict = len(own) == 1 and len(own[0]) == 64 and good_point(own[0][:32])
        try: return strict and int.from_bytes(own[0][32:], "little") < L and not key.public.verify(own[0], self.text.encode())
        except InvalidSignature: return False
def check_seal(record, before, tree, key):
    """The seal says the root of the tree of all lines before it. True when the key signed it. `before`: the record before."""
    with otherwise("seal-form"):  # a bare head has no signatures
        note = Head(record["data"]["note"])
        (name, raw), = note.signatures
    need(len(record["data"]) == 1 and note.origin == name == key.name, "seal-origin", f"{note.origin}, {name}")
    need(raw[:4] == key.id, "seal-key", "signed by another key than the segment's")
    same = before is not None and all(record[field] == before[field] for field in ("at", "mono", "boot"))
    need(same and note.size == record["seq"], "seal-form", "not the line's number, or the time of the line before")
    need(note.root == tree.root(), "records-rewritten", "the lines since the last seal are not what was sealed")
    return note.signed_by(key)
def days(at): return (datetime.datetime.fromisoformat(at[:-1]) - datetime.datetime(1970, 1, 1)).total_seconds() / 86_400
HOLDS, NEW_HOLD = ("enforcing", "shadow", "released"), {"hold": "enforcing", "parameterBoot": "", "releasedBoot": ""}
def set_hold(fold, **new):
    """What is as in the beginning is left out of a fold, and so of its snapshots."""
    for name, value in new.items():
        if value == NEW_HOLD[name]: fold.pop(name, None)
        else: fold[name] = value
def fold_hold(fold, record, to, lasts, base):
    if to not in HOLDS: return ["to"]
    if lasts not in ("always", "boot") or (lasts == "boot" and to != "released"): return ["lasts"]
    if lasts == "boot" and base not in HOLDS: return ["base"]
    if lasts == "boot": set_hold(fold, hold=base, parameterBoot=record["boot"], releasedBoot=record["boot"])
    else: set_hold(fold, hold=to, releasedBoot="")
    return []
ROLES, HEX16, PENDING_MS, KEPT_MS, CLEAR_MS, MAX_LEASES, MAX_DEEP = ("none", "readonly", "operator", "admin"), r"[0-9a-f]{16}", 3_600_000, 86_400_000, 3_600_000, 256, 8
def is_count(value): return type(value) is int and value >= 0
def is_text(value, form): return isinstance(value, str) and re.fullmatch(form, value) is not None
def are_texts(value, form=r"(?s:.*)"): return isinstance(value, list) and all(is_text(each, form) for each in value)
def wall_of(record):
    try: return round(days(record["at"]) * KEPT_MS)
    except ValueError: return 0
def maker_of(by):
    if not isinstance(by, dict) or not is_count(by.get("uid")) or not is_text(by.get("tokenId", ""), f"|{HEX16}"): return None
    return {"uid": by["uid"], **({"tokenId": by["tokenId"]} if by.get("tokenId") else {})}
def pick(data, empty, names): return {name: data[name] for name in names if name in data and data[name] not in empty}
def token_of(data):
    """A token as a record has it, without what says nothing; None when it is none."""
    if not isinstance(data, dict): return None
    who, by, digest, parent = data.get("principal"), maker_of(data.get("by")), data.get("digest"), data.get("parent", "")
    good = is_text(who, r"(User|Service|Agent)::[A-Za-z0-9_.@:/+=,%~-]{1,128}") and len(who.split("::")) == 2 and by is not None
    good = good and data.get("role") in ROLES and data.get("maxMode") in MODES and is_text(digest, "[0-9a-f]{64}") and data.get("id") == digest[:16]
    good = good and is_text(parent, f"|{HEX16}") and are_texts(data.get("subjects", [])) and are_texts(data.get("actions", []))
    good = good and are_texts(data.get("resources", []), r"[A-Za-z][A-Za-z0-9_.-]{0,63}::[ -~]{1,256}") and isinstance(data.get("label", ""), str)
    if not good or not all(is_count(data.get(name, 0)) for name in ("depth", "warned", "uses", "uid", "revoked")): return None
    if not is_count(data.get("expires")) or not is_count(data.get("made")): return None
    token = pick(data, (), ("id", "digest", "principal", "role", "actions", "resources", "maxMode", "expires", "uses", "uid", "made", "revoked"))
    token.update(pick(data, ("", []), ("subjects", "label")), by=by, **({"parent": parent, "depth": data.get("depth", 0)} if parent else {}))
    return {**token, "warned": 1} if data.get("warned") == 1 else token
def lease_of(data):
    if not isinstance(data, dict): return None
    by, start = maker_of(data.get("by")), data.get("start", {"wall": 0, "mono": 0, "boot": ""})
    good = by is not None and is_text(data.get("id"), HEX16) and isinstance(data.get("template"), str) and isinstance(data.get("reason"), str)
    good = good and data.get("maxMode") in MODES and data.get("state") in ("pending", "granted", "denied", "revoked", "over")
    good = good and is_count(data.get("forMs")) and is_count(data.get("asked")) and isinstance(start, dict) and isinstance(start.get("boot"), str)
    if not good or not all(is_count(data.get(name, 0)) for name in ("suspended", "uses", "ended")): return None
    if not is_count(start.get("wall")) or not is_count(start.get("mono")): return None
    lease = pick(data, (), ("id", "template", "reason", "forMs", "maxMode", "asked", "state", "uses", "ended"))
    if "start" in data: lease["start"] = {name: start[name] for name in ("wall", "mono", "boot")}
    return {**lease, "by": by, **({"suspended": 1} if data.get("suspended") == 1 else {})}
class Grants:
    """Tokens and leases: the part of the fold that a snapshot only sums up."""
    def __init__(self, promised=None):
        self.tokens, self.leases, self.bootstrapped, self.cleared, self.promised = {}, {}, 0, 0, None
        if promised is None: return
        need(isinstance(promised, dict) and set(promised) == {"bootstrapped", "cleared", "tokens", "leases", "digest"}, "snapshot-lies", "its grants")
        need(all(is_count(promised[name]) for name in promised if name != "digest") and promised["bootstrapped"] < 2, "snapshot-lies", "its grants")
        self.bootstrapped, self.cleared = promised["bootstrapped"], promised["cleared"]
        if promised["tokens"] + promised["leases"] > 0: self.promised = promised
        else: need(self.summary() == {"grants": promised}, "snapshot-lies", "its grants")
    def summary(self):
        if self.promised is not None: return {"grants": self.promised}
        if not (self.bootstrapped or self.leases or self.cleared): return {}
        tokens, leases = ([some[name] for name in sorted(some)] for some in (self.tokens, self.leases))
        text = json.dumps(ordered({"leases": leases, "tokens": tokens}, MAX_DEPTH), ensure_ascii=False, separators=(",", ":"))
        counts = {"bootstrapped": self.bootstrapped, "cleared": self.cleared, "tokens": len(tokens), "leases": len(leases)}
        return {"grants": {**counts, "digest": sha256(text.encode("utf-8")).hex()}}
    def line(self, name):
        line = []
        while name != "":
            if name not in self.tokens or len(line) > MAX_DEEP: return None
            line.append(self.tokens[name])
            name = line[-1].get("parent", "")
        return line or None
    def take(self, record):
        """The field that could not be read, in a list."""
        kind, data = record["kind"], record["data"]
        counted = kind == "decision" and data.get("decision") == "allow" and ("uses" in data or "leases" in data)
        if kind == "token.state": return self.state(data.get("tokens"), data.get("leases"))
        if not counted and kind not in GRANT_KINDS: return []
        if self.promised is not None: return ["kind"]
        if counted: return self.used(data)
        if kind == "token.used": return self.use(data.get("tokenId"))
        now = wall_of(record)
        if kind in ("token.minted", "token.narrowed", "lease.requested"): return self.made(kind, data, now)
        if not isinstance(data.get("id"), str): return ["id"]
        some = self.tokens if kind.startswith("token.") else self.leases
        if data["id"] not in some: return []
        one = some[data["id"]] = dict(some[data["id"]])
        if kind in ("lease.suspended", "lease.resumed"): one.pop("suspended", 0)
        start = {"wall": now, "mono": int(record["mono"]) // 10**6, "boot": record["boot"]}
        one.update({"token.revoked": {"revoked": now}, "token.expiring": {"warned": 1}, "lease.granted": {"state": "granted", "start": start},
                    "lease.denied": {"state": "denied", "ended": now}, "lease.revoked": {"state": "revoked", "ended": now},
                    "lease.ended": {"state": "over", "ended": now}, "lease.suspended": {"suspended": 1}}.get(kind, {}))
        return []
    def state(self, tokens, leases):
        if not isinstance(tokens, list): return ["tokens"]
        if not isinstance(leases, list): return ["leases"]
        for name, said, own, read in (("tokens", tokens, self.tokens, token_of), ("leases", leases, self.leases, lease_of)):
            for each in said:
                if self.promised is None: one = own.get(each.get("id")) if isinstance(each, dict) else None
                else: one = read(each)
                if one is None or (self.promised is None and one != each): return [name]
                own[one["id"]] = one
        if self.promised is None or len(self.tokens) < self.promised["tokens"] or len(self.leases) < self.promised["leases"]: return []
        promised, self.promised = self.promised, None
        return [] if self.summary() == {"grants": promised} else ["tokens"]
    def use(self, name):
        if not isinstance(name, str): return ["tokenId"]
        for each in self.line(name) or []:
            if "uses" in each: self.tokens[each["id"]] = {**each, "uses": max(0, each["uses"] - 1)}
        return []
    def used(self, data):
        if data.get("uses") == 1 and not isinstance(data.get("tokenId"), str): return ["tokenId"]
        if not isinstance(data.get("leases", []), list): return ["leases"]
        if data.get("uses") == 1: self.use(data["tokenId"])
        for name in data.get("leases", []):
            lease = self.leases.get(name) if isinstance(name, str) else None
            if lease and "uses" in lease: self.leases[name] = {**lease, "uses": max(0, lease["uses"] - 1)}
        return []
    def made(self, kind, data, now):
        tokens, leases, cleared = self.tokens, self.leases, self.cleared
        if now >= cleared + CLEAR_MS:
            gone = lambda each: each["expires"] <= now - KEPT_MS or each.get("revoked", now) <= now - KEPT_MS
            lines = {name: self.line(name) for name in tokens}
            tokens = {name: tokens[name] for name, line in lines.items() if line and not any(map(gone, line))}
            leases, cleared = {name: each for name, each in leases.items() if end_of(each) > now - KEPT_MS}, now
        one = lease_of(data.get("lease")) if kind == "lease.requested" else token_of(data.get("grant"))
        if one is None: return ["lease" if kind == "lease.requested" else "grant"]
        before, self.tokens = self.tokens, tokens
        if kind != "lease.requested" and "parent" in one and self.line(one["parent"]) is None:
            self.tokens = before
            return ["grant.parent"]
        if kind == "lease.requested":
            leases = leases if len(leases) < MAX_LEASES else {name: each for name, each in leases.items() if end_of(each) > now}
            self.leases, self.cleared = {**leases, one["id"]: one}, cleared
        else: self.tokens, self.leases, self.cleared, self.bootstrapped = {**tokens, one["id"]: one}, leases, cleared, 1
        return []
def end_of(lease):
    return lease.get("ended", lease["start"]["wall"] + lease["forMs"] if "start" in lease else lease["asked"] + PENDING_MS)
GRANT_KINDS = ("token.minted", "token.narrowed", "token.revoked", "token.used", "token.expiring", "lease.requested", "lease.granted",
               "lease.denied", "lease.revoked", "lease.ended", "lease.suspended", "lease.resumed")
def fold_record(fold, grants, record):
    kind, data, counts = record["kind"], record["data"], fold["firedByTripwire"]
    fold.update(lastAt=record["at"], lastSeq=record["seq"], lastBoot=record["boot"], lastMono=record["mono"])
    quiet = kind in QUIET or (kind == "hold.changed" and data.get("lasts") == "boot")
    if kind in ("daemon.started", "daemon.stopped") or (fold["stop"] == "clean" and not quiet):
        fold["stop"] = "clean" if kind == "daemon.stopped" else "running"
    fold["started"] += kind == "daemon.started"
    said, bad = data.get("frozen", ""), []
    frozen = {"daemon.started": said, "daemon.stopped": said, "clock.frozen": data.get("why"), "clock.cleared": "",
              **dict.fromkeys(("mode.changed", "mode.lapsed", "tripwire.fired"), fold["frozen"])}
    if kind in frozen:
        new = {"wanted": data.get("wanted"), "epoch": data.get("epoch"), "frozen": frozen[kind]}
        good = (new["wanted"] in MODES, isinstance(new["epoch"], int) and new["epoch"] >= 0, isinstance(new["frozen"], str))
        bad = [field for field, fine in zip(new, good) if not fine]
        fold.update({} if bad else new)
    field = {"tripwire.fired": "tripwire", "baseline.set": "digest"}.get(kind)
    name = data.get(field)
    if field and not isinstance(name, str): bad = [field]
    elif kind == "tripwire.fired":
        name = "other" if name not in counts and len(counts) >= MAX_TRIPWIRES else name
        counts[name] = counts.get(name, 0) + 1
    elif kind == "baseline.set": fold["baselineDigest"] = name
    if kind == "hold.changed": bad = fold_hold(fold, record, data.get("to"), data.get("lasts"), data.get("base", fold.get("hold", "enforcing")))
    bad = bad or grants.take(record)
    if bad: set_hold(fold, hold="enforcing", releasedBoot="")
    if kind in ("usb.state", "limit.state"): keep(fold, kind.split(".")[0].replace("limit", "limits"), data)
    if kind == "policy.loaded":
        disputed = fold.get("policies", {}).get("disputed")
        keep(fold, "policies", {**data, "disputed": disputed} if disputed is not None and disputed == data.get("digest") else data)
    if kind == "policy.disagreed": keep(fold, "policies", {"disputed": data.get("digest", "")})
    if kind == "limit.blocked":
        blocks = fold.get("limits", {}).get("blocks")
        keep(fold, "limits", {**fold.get("limits", {}), "blocks": ((blocks if type(blocks) is list else []) + [data])[-MAX_BLOCKS:]})
    if kind.startswith("approval.") and isinstance(data.get("id"), str): keep(fold, "approvals", fold_approvals(fold.get("approvals", []), kind[9:], data))
    if bad: fold["wanted"], fold["unreadable"] = "LOCKDOWN", f"seq {record['seq']}: {bad[0]}"

def keep(fold, name, value):
    """A field that a snapshot leaves out where it says nothing."""
    fold.pop(name, 0)
    fold.update({name: value} if value else {})

def fold_approvals(held, what, data):
    found = [one for one in held if one.get("id") == data["id"]]
    others = [one for one in held if one.get("id") != data["id"]]
    if what == "requested": return (others + [data])[-MAX_APPROVALS:]
    if what in ("approved", "denied"): return others + [{**found[0], what: data}] if found else held
    return others if what in ("expired", "used") else held

class Walk:
    """What is known of the log up to a line: the tree, what of it is proven, the key in force and the one certified."""
    def __init__(self, genesis, heads):
        self.genesis, self.key, self.next_key, self.segment, self.heads = genesis, genesis, None, 0, heads
        self.grants = Grants()
        self.tree, self.proven, self.prev, self.before = Tree(), 0, "0" * 64, None
        self.fold, self.kept_from, self.graves, self.said = copy.deepcopy(NEW_FOLD), 0, [], []  # said: log.pruned, no seal yet
        self.state = 0  # of the unsealed bytes
        self.unsealed, self.hole, self.hole_sealed, self.doubt = 0, None, False, False  # bytes; the fault where zeros begin
    def compare(self):
        """The heads of this size, with the tree's root. The key in force is still the one of the line before."""
        for head in (head for head in self.heads if head.size == self.tree.size):
            same = head.root == self.tree.root() and (head.signatures is None or head.signed_by(self.key))
            need(same, "head-mismatch", f"at size {head.size}")
    def grow(self, line, record):
        self.prev, self.before = sha256(b"\0" + line).hex(), record
        self.tree.add(bytes.fromhex(self.prev))
    def take(self, line, may_begin):
        try:
            record = None if self.hole else record_of(line)
        except Fault as fault:
            need(b"\0" in line, *fault.args)
            self.hole = fault  # zeros, as a power cut leaves them in the last batch
        sealing = not self.hole and record["kind"] == "seal"
        self.unsealed = 0 if sealing else self.unsealed + len(line) + 1
        self.state = 0 if sealing else self.state + (len(line) + 1 if not self.hole and record["kind"] == "token.state" else 0)
        room = MAX_BATCH + (MAX_STATE if self.hole else min(self.state, MAX_STATE))
        need(self.unsealed <= room, "sealing-off", "more than a batch without a seal")
        if self.hole:  # what follows is torn with it, but for what comes behind the seal of that batch
            need(not self.hole_sealed, *self.hole.args)
            self.hole_sealed = b'"kind":"seal","mono":"' in line
            return
        place = (record["seq"] > self.tree.size) - (record["seq"] < self.tree.size)
        need(place == 0, ("", "records-missing", "record-duplicated")[place], f"where {self.tree.size} should be")
        need(record["prev"] == self.prev, "record-edited", "prev is not the hash of the line before")
        self.compare()
        self.check_start(record, may_begin)
        self.check_snapshot(record)
        if sealing:
            self.doubt = not check_seal(record, self.before, self.tree, self.key)  # until a later one of this segment is good
            self.certify(self.before["data"]) if self.before["kind"] == "log.rotated" else None
            self.proven = self.proven if self.doubt else self.tree.size + 1
            self.cover()
        elif self.before is not None:
            need(self.before["kind"] != "log.rotated", "segment-start", "after a log.rotated comes its seal")
        if record["kind"] == "log.pruned" and isinstance(record["data"].get("through"), int): self.said.append(record)
        self.grow(line, record)
        fold_record(self.fold, self.grants, record)
    def cover(self):
        """What is gone has to have been old when the log said that it was pruned."""
        with otherwise("pruned-early"):
            for record in self.said:
                kept = record["data"].get("keptDays")
                while self.graves and self.graves[0][0] <= record["data"]["through"]:
                    old = days(record["at"]) - days(self.graves.pop(0)[1]) >= 90 and days(record["at"]) <= time.time() / 86_400 + 1
                    need(type(kept) is int and kept >= 90 and old, "pruned-early", record["at"])
        self.said = []
    def check_start(self, record, may_begin):
        """log.genesis and log.segment stand where they have to and nowhere else, and say what was certified."""
        kind, data, first = record["kind"], record["data"], self.tree.size == 0
        if not first and not self.next_key: return need(kind not in ("log.segment", "log.genesis"), "segment-start", "no rotation before")
        key, number = (self.genesis, 0) if first else (self.next_key, self.segment + 1)
        says = {"format": 1, "key": key.text, "origin": key.name, "segment": number}
        starts = kind == "log.genesis" and list(data) == list(says) if first else kind == "log.segment" and may_begin and set(data) <= {*says, "snapshot"}
        need(not self.doubt, "seal-signature", "no good signature after it")
        need(starts, "genesis-missing" if first else "segment-start", "the log or the segment does not begin here")
        need({name: data.get(name) for name in says} == says, "wrong-key" if first else "segment-start", "another key, origin or number than certified")
        self.key, self.segment, self.next_key = key, number, None
    def check_snapshot(self, record):
        says = {"log.snapshot": record["data"], "log.segment": record["data"].get("snapshot")}.get(record["kind"])
        if self.fold is None:  # what was pruned is folded here alone
            with otherwise("snapshot-lies"):
                fold = self.fold = copy.deepcopy(says["fold"])
                self.grants = Grants(fold.pop("grants", None))
                held = {name: fold[name] for name in NEW_HOLD if name in fold}
                more = {name: empty for name, empty in (("usb", {}), ("policies", {}), ("limits", {}), ("approvals", [])) if name in fold}
                types = [{name: type(of[name]) for name in of} for of in (fold, {**NEW_FOLD, **{name: "" for name in held}, **more})]
                known = fold["wanted"] in ("", *MODES) and fold["stop"] in ("none", "running", "clean")
                known = known and all(fold[name] for name in more) and all(type(one) is dict for one in fold.get("approvals", []))
                known = known and held.get("hold", "shadow") in ("shadow", "released") and "" not in held.values()
                numbers = all(type(count) is int for count in fold["firedByTripwire"].values())
            need(types[0] == types[1] and known and numbers, "snapshot-lies", "it does not say what came before")
        own = {"fold": {**self.fold, **(self.grants.summary() if says is not None else {})}, "frontier": [node.hex() for node in self.tree.frontier]}
        need(says is None or says == own, "snapshot-lies", "not what the records before it come to")
    def certify(self, says):
        with otherwise("segment-start"):
            key = Key(says["key"])
        good = says == {"key": key.text, "segment": self.segment + 1} and key.name == self.genesis.name
        self.next_key = need(good, "segment-start", "a log.rotated of another form") or key
    def bury(self, first, lines):
        """One tombstone: the tree goes on after its seal, and the key it certifies is the next in force."""
        if self.next_key: self.key, self.segment, self.next_key = self.next_key, self.segment + 1, None
        need(len(lines) == 3 and all(line.endswith(b"\n") for line in lines), "tombstone-bad", "not three lines")
        head, rotated, seal = canonical(lines[0][:-1], 3), record_of(lines[1][:-1]), record_of(lines[2][:-1])
        size, nodes = head["size"], head["frontier"]
        good = head == {"first": first, "frontier": nodes, "segment": self.segment, "size": size, "v": 1}
        good = good and size > first == self.tree.size and len(nodes) == bin(size).count("1")
        good = good and isinstance(nodes, list) and all(re.fullmatch(FORMS["prev"], node) for node in nodes)
        need(good and rotated["kind"] == "log.rotated" and rotated["seq"] == size, "tombstone-bad", "its first line")
        self.tree = Tree(size, [bytes.fromhex(node) for node in nodes])
        self.grow(lines[1][:-1], rotated)
        need((seal["kind"], seal["seq"], seal["prev"]) == ("seal", size + 1, self.prev), "tombstone-bad", "its seal")
        need(check_seal(seal, rotated, self.tree, self.key), "tombstone-bad", "its signature")
        self.graves.append((size + 2, seal["at"]))
        self.certify(rotated["data"])
        self.grow(lines[2][:-1], seal)
        self.fold, self.kept_from, self.proven = None, self.tree.size, self.tree.size
def read_segment(walk, path, first, last):
    """Takes all lines of a file; true when a piece of a line was left at the log's end."""
    code = "segment-misnamed" if walk.tree.size else "start-missing"
    need(first in (None, walk.tree.size), code, f"{path} where {walk.tree.size} comes next")
    need(not walk.hole and (walk.tree.size == 0 or walk.next_key), "segment-start", f"{path}: no rotation goes before")
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b"")):
            try:
                need(line.endswith(b"\n") or len(line) <= MAX_LINE, "line-too-long")
                if not line.endswith(b"\n"): return need(last, "line-unfinished", "in the middle of the log") or True
                walk.take(line[:-1], number == 0 or first is None)
            except Fault as fault:
                raise Fault(*fault.args, f"{path}, line {number + 1}") from None
    return False
def read_log(walk, path):
    """All tombstones and segments; files of no bytes count for nothing. True when a piece of a line was left."""
    directory, names = (path, os.listdir(path)) if os.path.isdir(path) else (os.path.dirname(path), [os.path.basename(path)])
    names = sorted(name for name in names if re.fullmatch(r"[0-9]{20}\.(jsonl|tombstone)", name))
    names = [name for name in names if name.endswith("l") or name[:20] + ".jsonl" not in names]
    names = [name for name in names if os.path.getsize(os.path.join(directory, name))]
    if not names and os.path.isfile(path) and os.path.getsize(path): return read_segment(walk, path, None, True)
    need(names and names[-1].endswith("l"), "log-empty", "no segment, or a tombstone behind all")
    for name in names:
        path, first = os.path.join(directory, name), int(name[:20])
        if name.endswith("l"): piece = read_segment(walk, path, first, name == names[-1])
        else:
            need(walk.tree.size == walk.kept_from, "tombstone-bad", "behind a segment")
            with open(path, "rb") as file, otherwise("tombstone-bad"):
                walk.bury(first, file.read(4 * MAX_LINE).splitlines(keepends=True))
    need(not walk.graves, "pruned-unrecorded", "the log does not say that this was pruned")
    return piece
def verify(path, key, heads):
    walk, size = Walk(key, heads), max((head.size for head in heads), default=0)
    try:
        piece = read_log(walk, path)
        need(not walk.doubt, "seal-signature", "no good signature after it")
        need(size <= walk.proven, "tail-cut", f"{walk.proven} proven records, the head has {size}")
        walk.compare()
    except Fault as fault: return "broken", ": ".join(fault.args)
    rest, pruned = walk.tree.size - walk.proven, sum(head.size < walk.kept_from for head in heads)
    why = f"{walk.proven} proven records, {rest} unproven, {int(piece)} piece of a line, {pruned} heads not compared"
    return "torn" if piece or rest > 0 or walk.hole else "sound", why
def read_arguments(log, key, heads):
    of_file = lambda text: open(text, encoding="utf-8").read() if os.path.isfile(text) else text
    key, heads = Key(of_file(key).strip()), [Head(of_file(head)) for head in heads]
    if any(head.signatures and head.origin != key.name for head in heads): raise ValueError("a head of another log")
    os.listdir(log) if os.path.isdir(log) else open(log, "rb").close()
    return log, key, heads
def main():
    if sys.argv[1:] == ["--batch"]:
        for each in map(json.loads, sys.stdin): print(*verify(*read_arguments(each["log"], each["key"], each["heads"])), sep=": ", flush=True)
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log"), parser.add_argument("--key", required=True)
    parser.add_argument("--head", action="append", default=[])
    given = parser.parse_args()
    try:
        verdict, why = verify(*read_arguments(given.log, given.key, given.head))
    except (OSError, ValueError) as error: parser.error(str(error))
    print(f"{verdict}: {why}")
    return 0 if verdict == "sound" else 1

if __name__ == "__main__":
    sys.exit(main())
