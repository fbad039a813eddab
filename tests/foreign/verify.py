#!/usr/bin/env python3
"""A verifier of boundary-daemon's log that shares no code with it, written from docs/LOG_FORMAT.md alone.

    verify.py DIR --key KEY [--head "SIZE ROOT"]

DIR is the log's directory, or one file with all segments in order. KEY is the genesis key (name+hash+base64) or a file
that holds it. SIZE and ROOT (hex) are a head kept elsewhere. One line is printed: "sound", "torn" or "broken", and why.
Exit 0: sound. 1: torn or broken. 2: usage. Needs Python 3.9 and python3-cryptography.
"""
import argparse, base64, copy, hashlib, json, os, re, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_LINE, MAX_BATCH, MAX_DEPTH, MAX_TRIPWIRES = 65_535, 4 * 1024 * 1024, 32, 1024
MODES = ("OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN")
QUIET = ("seal", "log.alive", "log.snapshot", "log.rotated", "log.segment")
FIELDS = ["at", "boot", "data", "kind", "mono", "prev", "seq", "v"]
FORMS = {"boot": r"[0-9a-z-]{1,64}", "kind": r"[0-9a-z.-]{1,64}", "mono": r"0|[1-9][0-9]{0,19}", "prev": "[0-9a-f]{64}",
         "at": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"}
NOTE = r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([^\n]+)\n\n\u2014 ([^ \n]+) ([^ \n]+)\n"
NEW_FOLD = {"wanted": "", "epoch": 0, "frozen": "", "stop": "none", "lastAt": "", "lastSeq": -1, "lastBoot": "",
            "lastMono": "", "baselineDigest": "", "firedByTripwire": {}, "started": 0, "unreadable": ""}
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
SMALL_Y = {0, 1, P - 1, ORDER_8, P - ORDER_8}  # the y of all points whose order divides 8

class Fault(Exception):
    """The log is broken: a code of docs/LOG_FORMAT.md, and what was seen."""

def need(good, code, why):
    if not good:
        raise Fault(code, why)

def sha256(data):
    return hashlib.sha256(data).digest()

def no_twins(pairs):
    need(len({key for key, _ in pairs}) == len(pairs), "json-duplicate-key", "a key stands twice")
    return dict(pairs)

def ordered(value, depth):
    """The value with its keys in order (of UTF-16), if it is all strings, safe integers, arrays and objects."""
    if isinstance(value, str) or (type(value) is int and abs(value) <= 2**53 - 1):
        return value
    need(isinstance(value, (dict, list)), "json-invalid", f"a value that may not be: {value!r:.40}")
    need(depth > 0, "json-too-deep", "nested too deep")
    if isinstance(value, list):
        return [ordered(item, depth - 1) for item in value]
    return {key: ordered(value[key], depth - 1) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}

def canonical(line, depth):
    """The value of a line of bytes that is exactly the canonical form of that value."""
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=no_twins)
        again = json.dumps(ordered(value, depth), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault("not-utf8", str(error)) from None
    except RecursionError:
        raise Fault("json-too-deep", "nested too deep") from None
    except ValueError as error:  # lone surrogates too: neither UTF-8 nor UTF-16 has them
        raise Fault("json-invalid", str(error)) from None
    need(again == line, "json-invalid", "not in canonical form")
    return value

def record_of(line):
    need(len(line) <= MAX_LINE, "line-too-long", f"{len(line)} bytes")
    record = canonical(line, MAX_DEPTH + 1)
    need(isinstance(record, dict) and list(record) == FIELDS, "record-shape", "not the fields of a record")
    for name, form in FORMS.items():
        need(isinstance(record[name], str) and re.fullmatch(form, record[name]), "record-shape", name)
    numbers = record["v"] == 1 and isinstance(record["seq"], int) and record["seq"] >= 0
    need(numbers and isinstance(record["data"], dict), "record-shape", "v, seq or data")
    return record

class Tree:
    """An RFC 6962 tree of which the frontier is kept."""
    def __init__(self, size=0, frontier=()):
        self.size, self.frontier = size, list(frontier)
    def add(self, leaf):
        size, self.size = self.size, self.size + 1
        while size & 1:
            leaf, size = sha256(b"\1" + self.frontier.pop() + leaf), size >> 1
        self.frontier.append(leaf)
    def root(self):
        root = self.frontier[-1] if self.frontier else sha256(b"")
        for left in reversed(self.frontier[:-1]):
            root = sha256(b"\1" + left + root)
        return root

def strict_base64(text):
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 that is not the one text")
    return raw

def good_point(encoded):
    """In canonical form, and not of small order. Whether it is on the curve the library says."""
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
        if not strict or not self.name or re.search(r"\s", self.name) or self.id.hex() != key_hash:
            raise ValueError("no strict Ed25519 verifier key")
        self.public = Ed25519PublicKey.from_public_bytes(raw[1:])
    def signed(self, text, signature):
        try:
            self.public.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return int.from_bytes(signature[32:], "little") < L and good_point(signature[:32])

def check_seal(record, before, tree, key):
    """The seal says the root of the tree of all lines before it, under the key. `before` is the record before it."""
    note = record["data"].get("note")
    parts = re.fullmatch(NOTE, note) if list(record["data"]) == ["note"] and isinstance(note, str) else None
    need(parts, "seal-form", "not a checkpoint with one signature")
    try:
        root, signature = strict_base64(parts[3]), strict_base64(parts[5])
    except ValueError as error:
        raise Fault("seal-form", str(error)) from None
    need(len(root) == 32 and len(signature) == 68, "seal-form", "a root or signature of another length")
    need(parts[1] == key.name and parts[4] == key.name, "seal-origin", f"{parts[1]}, {parts[4]}")
    need(signature[:4] == key.id, "seal-key", "signed by another key than the segment's")
    need(key.signed(note[: note.index("\n\n") + 1], signature[4:]), "seal-signature", "the signature is not good")
    need(int(parts[2]) == record["seq"], "seal-form", "the size is not the seal's number")
    same = before is not None and all(record[field] == before[field] for field in ("at", "mono", "boot"))
    need(same, "seal-form", "the times are not those of the line before")
    need(root == tree.root(), "records-rewritten", "the lines since the last seal are not what was sealed")

def unreadable(fold, record, field):
    fold["wanted"], fold["unreadable"] = "LOCKDOWN", f"seq {record['seq']}: {field}"

def fold_mode(fold, record, frozen):
    new = {"wanted": record["data"].get("wanted"), "epoch": record["data"].get("epoch"), "frozen": frozen}
    good = {"wanted": new["wanted"] in MODES, "epoch": isinstance(new["epoch"], int) and new["epoch"] >= 0,
            "frozen": isinstance(frozen, str)}
    bad = [field for field in good if not good[field]]
    unreadable(fold, record, bad[0]) if bad else fold.update(new)

def fold_record(fold, record):
    kind, data, counts = record["kind"], record["data"], fold["firedByTripwire"]
    fold.update(lastAt=record["at"], lastSeq=record["seq"], lastBoot=record["boot"], lastMono=record["mono"])
    if kind in ("daemon.started", "daemon.stopped") or (fold["stop"] == "clean" and kind not in QUIET):
        fold["stop"] = "clean" if kind == "daemon.stopped" else "running"
    fold["started"] += kind == "daemon.started"
    if kind in ("daemon.started", "daemon.stopped"):
        fold_mode(fold, record, data.get("frozen", ""))
    elif kind in ("mode.changed", "mode.lapsed", "tripwire.fired"):
        fold_mode(fold, record, fold["frozen"])
    elif kind in ("clock.frozen", "clock.cleared"):
        fold_mode(fold, record, data.get("why") if kind == "clock.frozen" else "")
    field = {"tripwire.fired": "tripwire", "baseline.set": "digest"}.get(kind)
    name = data.get(field)
    if field and not isinstance(name, str):
        unreadable(fold, record, field)
    elif kind == "tripwire.fired":
        name = "other" if name not in counts and len(counts) >= MAX_TRIPWIRES else name
        counts[name] = counts.get(name, 0) + 1
    elif kind == "baseline.set":
        fold["baselineDigest"] = name

class Walk:
    """What is known of the log up to a line: the tree, what of it is proven, the key in force and the one certified."""
    def __init__(self, genesis, head_size):
        self.genesis, self.key, self.next_key, self.segment = genesis, genesis, None, 0
        self.tree, self.proven, self.prev, self.before = Tree(), 0, "0" * 64, None
        self.fold, self.kept_from = copy.deepcopy(NEW_FOLD), 0
        self.unsealed, self.unsealed_bytes, self.through = [], 0, 0
        self.head_size, self.head_root = head_size, sha256(b"") if head_size == 0 else None
    def grow(self, line, record):
        leaf = sha256(b"\0" + line)
        self.tree.add(leaf)
        self.prev, self.before = leaf.hex(), record
        if self.tree.size == self.head_size:
            self.head_root = self.tree.root()
    def take(self, line, starts_file, single):
        record = record_of(line)
        seq, expected = record["seq"], self.tree.size
        code = "records-missing" if seq > expected else "record-duplicated"
        need(seq == expected, code, f"{seq} where {expected} should be")
        need(record["prev"] == self.prev, "record-edited", "prev is not the hash of the line before")
        self.check_start(record, starts_file or single)
        self.check_snapshot(record)
        if record["kind"] == "seal":
            check_seal(record, self.before, self.tree, self.key)
            self.close_batch()
        else:
            self.unsealed.append(record)
            self.unsealed_bytes += len(line) + 1
            need(self.unsealed_bytes <= MAX_BATCH, "sealing-off", "more than 4 MiB without a seal")
        self.grow(line, record)
        self.proven = self.tree.size if record["kind"] == "seal" else self.proven
        if self.fold is not None:
            fold_record(self.fold, record)
    def check_start(self, record, may_begin):
        """log.genesis and log.segment stand where they have to and nowhere else, and say what was certified."""
        kind, data, first = record["kind"], record["data"], self.tree.size == 0
        if not first and not self.next_key:
            return need(kind not in ("log.segment", "log.genesis"), "segment-start", "no rotation goes before")
        key, number = (self.genesis, 0) if first else (self.next_key, self.segment + 1)
        says = {"format": 1, "key": key.text, "origin": key.name, "segment": number}
        rest = {name: value for name, value in data.items() if first or name != "snapshot"}
        need(first or (kind == "log.segment" and may_begin), "segment-start", "nothing else may follow a rotation")
        need(not first or (kind == "log.genesis" and list(rest) == list(says)), "genesis-missing", "no log.genesis")
        need(rest == says, "wrong-key" if first else "segment-start", "another key, origin or number than certified")
        self.key, self.segment, self.next_key = key, number, None
    def check_snapshot(self, record):
        snapshot = {"log.snapshot": record["data"], "log.segment": record["data"].get("snapshot")}.get(record["kind"])
        if snapshot is None:
            return
        need(isinstance(snapshot, dict) and list(snapshot) == ["fold", "frontier"], "snapshot-lies", "not its two fields")
        need(snapshot["frontier"] == [node.hex() for node in self.tree.frontier], "snapshot-lies", "another frontier")
        if self.fold is None and self.tree.size == self.kept_from:  # what was pruned is folded here alone
            self.fold = fold = copy.deepcopy(snapshot["fold"])
            same = isinstance(fold, dict) and {n: type(v) for n, v in fold.items()} == {n: type(v) for n, v in NEW_FOLD.items()}
            need(same and all(type(count) is int for count in fold["firedByTripwire"].values()), "snapshot-lies", "no fold")
        need(self.fold is None or snapshot["fold"] == self.fold, "snapshot-lies", "another fold")
    def close_batch(self):
        batch, self.unsealed, self.unsealed_bytes = self.unsealed, [], 0
        through = [record["data"].get("through") for record in batch if record["kind"] == "log.pruned"]
        self.through = max([self.through] + [size for size in through if isinstance(size, int)])
        rotations = [record for record in batch if record["kind"] == "log.rotated"]
        if rotations:
            need(rotations == [self.before], "segment-start", "a log.rotated that is not the line before its seal")
            self.certify(rotations[0]["data"])
    def certify(self, data):
        try:
            self.next_key = Key(data["key"])
        except (AttributeError, KeyError, ValueError):
            raise Fault("segment-start", "a log.rotated without a good key") from None
        says = {"key": self.next_key.text, "segment": self.segment + 1}
        need(data == says and self.next_key.name == self.genesis.name, "segment-start", "a log.rotated of another form")
    def bury(self, first, lines):
        """One tombstone: the tree goes on after its seal, and the key it certifies is the next in force."""
        need(len(lines) == 3 and all(line.endswith(b"\n") for line in lines), "tombstone-bad", "not three lines")
        if self.next_key:
            self.key, self.segment, self.next_key = self.next_key, self.segment + 1, None
        head, rotated, seal = canonical(lines[0][:-1], 3), record_of(lines[1][:-1]), record_of(lines[2][:-1])
        size, nodes = (head.get("size"), head.get("frontier")) if isinstance(head, dict) else (0, [])
        says = {"first": first, "frontier": nodes, "segment": self.segment, "size": size, "v": 1}
        good = head == says and first == self.tree.size and isinstance(size, int) and isinstance(nodes, list)
        need(good and size > first and len(nodes) == bin(size).count("1"), "tombstone-bad", "its first line")
        hexes = all(isinstance(node, str) and re.fullmatch(FORMS["prev"], node) for node in nodes)
        need(hexes and rotated["kind"] == "log.rotated" and rotated["seq"] == size, "tombstone-bad", "log.rotated")
        self.tree = Tree(size, [bytes.fromhex(node) for node in nodes])
        if size == self.head_size:
            self.head_root = self.tree.root()
        self.grow(lines[1][:-1], rotated)
        follows = seal["kind"] == "seal" and seal["seq"] == size + 1 and seal["prev"] == self.prev
        need(follows, "tombstone-bad", "the seal does not follow")
        check_seal(seal, rotated, self.tree, self.key)
        self.certify(rotated["data"])
        self.grow(lines[2][:-1], seal)
        self.fold, self.kept_from, self.proven = None, self.tree.size, self.tree.size

def read_segment(walk, path, first, last):
    """Takes all lines of a file; true when a piece of a line was left at the log's end."""
    single, offset, line_number = first is None, 0, 0
    try:
        code = "segment-misnamed" if walk.tree.size else "start-missing"
        need(single or first == walk.tree.size, code, f"{first} where {walk.tree.size} comes next")
        need(walk.tree.size == 0 or walk.next_key, "segment-start", "no rotation goes before")
        with open(path, "rb") as file:
            for line_number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b"")):
                if not line.endswith(b"\n"):
                    need(len(line) <= MAX_LINE, "line-too-long", "no end of line")
                    need(last, "line-unfinished", "and it is not the last of the log")
                    return True
                walk.take(line[:-1], line_number == 0, single)
                offset += len(line)
    except Fault as fault:
        raise Fault(*fault.args, f"{os.path.basename(path)}, line {line_number + 1}, byte {offset}") from None
    return False

def read_log(walk, path):
    if os.path.isfile(path):
        need(os.path.getsize(path) > 0, "log-empty", "no line")
        return read_segment(walk, path, None, True)
    files = {end: sorted(name for name in os.listdir(path) if re.fullmatch(r"[0-9]{20}\." + end, name))
             for end in ("jsonl", "tombstone")}
    segments = files["jsonl"]
    empty = not any(os.path.getsize(os.path.join(path, name)) for name in segments + files["tombstone"])
    need(segments and not empty, "log-empty", "no segment")
    buried = [name for name in files["tombstone"] if name[:20] + ".jsonl" not in segments]
    for name in buried:
        try:
            need(name[:20] < segments[0][:20], "tombstone-bad", "a tombstone after a segment")
            with open(os.path.join(path, name), "rb") as file:
                walk.bury(int(name[:20]), file.read(4 * MAX_LINE).splitlines(keepends=True))
        except Fault as fault:
            raise Fault("tombstone-bad", fault.args[1], f"{name} ({fault.args[0]})") from None
    for name in segments:
        piece = read_segment(walk, os.path.join(path, name), int(name[:20]), name == segments[-1])
    need(walk.kept_from <= walk.through, "pruned-unrecorded", f"kept from {walk.kept_from}, said {walk.through}")
    return piece

def verify(path, key, head):
    """(verdict, why): `head` is (size, root) or None."""
    walk = Walk(key, head[0] if head else None)
    try:
        piece = read_log(walk, path)
        if head:
            need(head[0] <= walk.proven, "tail-cut", f"{walk.proven} proven records, the head has {head[0]}")
            need(walk.head_root == head[1], "head-mismatch", f"another root at size {head[0]}, or one that was pruned")
    except Fault as fault:
        return "broken", ": ".join(fault.args)
    rest = walk.tree.size - walk.proven
    torn = piece or rest > 0
    return "torn" if torn else "sound", f"{walk.proven} proven records, {rest} unproven, {int(piece)} piece of a line"

def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log"), parser.add_argument("--key", required=True), parser.add_argument("--head")
    given = parser.parse_args()
    try:
        text = given.key if "+" in given.key else open(given.key, encoding="utf-8").read().strip()
        head = re.fullmatch("([0-9]{1,16}) ([0-9a-f]{64})", given.head) if given.head is not None else None
        if given.head is not None and not head:
            raise ValueError("--head is a size and a root in hex")
        os.listdir(given.log) if os.path.isdir(given.log) else open(given.log, "rb").close()
        return given.log, Key(text), head and (int(head[1]), bytes.fromhex(head[2]))
    except (OSError, ValueError) as error:
        parser.error(str(error))

if __name__ == "__main__":
    verdict, reason = verify(*arguments())
    print(f"{verdict}: {reason}")
    sys.exit(0 if verdict == "sound" else 1)
