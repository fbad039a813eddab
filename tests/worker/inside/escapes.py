# Run inside the sandbox alone. Tries to get out of it, one way after the other, and says as JSON what came of each try: the
# name of an error, or "GOT" and what was got. Facts of the host come as JSON on stdin: pids, paths of files and sockets.
import array
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import sys

FACTS = json.load(sys.stdin)
ARM = os.uname().machine == "aarch64"
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
SAID = {}


def name_of(number):
    return errno.errorcode.get(number, str(number))


def attempt(name, work):
    try:
        got = work()
        SAID[name] = "nothing" if got is None else f"GOT {got}"
    except OSError as error:
        SAID[name] = name_of(error.errno)
    except Exception as error:  # what Python itself refuses
        SAID[name] = type(error).__name__


def call(number, *arguments):
    wide = [ctypes.c_char_p(one) if isinstance(one, bytes) else ctypes.c_long(one) for one in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


NUMBERS = {
    # name: x86_64, aarch64
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "tgkill": (234, 131),
    "rt_tgsigqueueinfo": (297, 240),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "open_by_handle_at": (304, 265),
    "kcmp": (312, 272),
    "mknodat": (259, 33),
}


def number(name):
    return NUMBERS[name][1 if ARM else 0]


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


def put(path, text):
    file = os.open(path, os.O_WRONLY)
    try:
        return os.write(file, text.encode())
    finally:
        os.close(file)


def ptrace():
    # without the filter its own first process could be held, which ends nothing but itself
    near = [("1", "first"), (str(os.getppid()), "parent")] if FACTS["filtered"] else []
    room = ctypes.create_string_buffer(16)
    piece = (ctypes.c_ulong * 2)(ctypes.addressof(room), 16)
    here = ctypes.addressof(piece)
    for pid, whose in [*FACTS["pids"].items(), *near]:
        attempt(f"attach {whose}", lambda: call(number("ptrace"), 16, int(pid), 0, 0))
        attempt(f"seize {whose}", lambda: call(number("ptrace"), 0x4206, int(pid), 0, 0))
        attempt(f"read memory {whose}", lambda: call(number("process_vm_readv"), int(pid), here, 1, here, 1, 0))
        attempt(f"same file {whose}", lambda: call(number("kcmp"), int(pid), os.getpid(), 0, 0, 0))
        if whose not in ("parent",):
            attempt(f"open memory {whose}", lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)) or "memory")


def roots():
    secret = FACTS["secret"]
    ways = ["/proc/self/root", "/proc/1/root", "/proc/1/cwd", "/proc/thread-self/root", f"/proc/{os.getppid()}/root"]
    for pid in FACTS["pids"]:
        ways += [f"/proc/{pid}/root", f"/proc/{pid}/cwd"]
    for way in ways:
        attempt(f"{way}", lambda: read(f"{way}{secret}"))
        attempt(f"{way}/..", lambda: read(f"{way}/../../../../../../../..{secret}"))
    # what the first process or a parent has open, and what is above that
    found = []
    for pid in [one for one in os.listdir("/proc") if one.isdigit()]:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for one in numbers:
            for path in (f"/proc/{pid}/fd/{one}{secret}", f"/proc/{pid}/fd/{one}/../../../../../../..{secret}"):
                try:
                    found.append(read(path).decode())
                except OSError:
                    pass
    SAID["descriptors of all processes"] = "nothing" if not found else f"GOT {found}"
    # a link of its own, and a working directory that is moved away under it
    link = os.path.join(FACTS["workspace"], "to-secret")
    attempt("a link", lambda: (os.path.lexists(link) or os.symlink(secret, link)) and None)
    attempt("through the link", lambda: read(link))

    def renamed():
        deep = os.path.join(FACTS["workspace"], "deep/er")
        os.makedirs(deep, exist_ok=True)
        handle = os.open(deep, os.O_RDONLY)
        os.rename(deep, os.path.join(FACTS["workspace"], f"moved-{os.getpid()}"))
        for _ in range(40):
            up = os.open("..", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = up
        return os.open(secret.lstrip("/"), os.O_RDONLY, dir_fd=handle)

    attempt("above a directory that was moved", renamed)
    attempt("chroot", lambda: call(number("chroot"), b"/tmp"))
    attempt("a handle", lambda: call(number("open_by_handle_at"), -100, 0, 0))


def namespaces():
    flags = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "net": 0x40000000, "uts": 0x4000000, "ipc": 0x8000000}
    for name, flag in {**flags, "cgroup": 0x2000000, "time": 0x80}.items():
        attempt(f"unshare {name}", lambda: call(number("unshare"), flag))
    for name in flags:
        attempt(f"setns {name}", lambda: call(number("setns"), os.open(f"/proc/1/ns/{name}", os.O_RDONLY), flags[name]))
        for pid, whose in FACTS["pids"].items():
            attempt(f"setns {name} {whose}", lambda: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY))
    for file in ("uid_map", "gid_map", "setgroups", "projid_map"):
        for pid in ("self", "1"):
            attempt(f"write {file} {pid}", lambda: put(f"/proc/{pid}/{file}", "0 0 4294967295"))


def setuid():
    attempt("setuid", lambda: os.setuid(0))
    attempt("setresuid", lambda: os.setresuid(0, 0, 0))
    attempt("setgid", lambda: os.setgid(0))
    attempt("setgroups", lambda: os.setgroups([0]))
    attempt("setresuid host", lambda: os.setresuid(*[FACTS["daemonUid"]] * 3))
    mine = os.path.join(FACTS["workspace"], "own-set-id")
    try:
        with open(mine, "wb") as file, open("/usr/bin/id", "rb") as source:
            file.write(source.read())
        os.chmod(mine, 0o6755)
        SAID["own set-user-id"] = os.popen(f"{mine} -u").read().strip()
    except OSError as error:
        SAID["own set-user-id"] = name_of(error.errno)
    attempt("capabilities of a file", lambda: os.setxattr(mine, "security.capability", b"\x01\0\0\2" + b"\xff" * 16))
    attempt("chown", lambda: os.chown(mine, 0, 0))
    SAID["uid"] = f"{os.getuid()} {os.geteuid()}"


def mounts():
    attempt("mount", lambda: call(number("mount"), b"none", b"/tmp", b"tmpfs", 0, 0))
    attempt("bind", lambda: call(number("mount"), b"/proc/1/root", b"/tmp", b"none", 4096, 0))
    attempt("remount", lambda: call(number("mount"), b"none", b"/", b"none", 32, 0))
    attempt("umount", lambda: call(number("umount2"), b"/usr", 2))
    attempt("pivot_root", lambda: call(number("pivot_root"), b"/tmp", b"/tmp"))
    attempt("open_tree", lambda: call(number("open_tree"), -100, b"/usr", 1))
    attempt("fsopen", lambda: call(number("fsopen"), b"tmpfs", 0))
    attempt("mount_setattr", lambda: call(number("mount_setattr"), -100, b"/usr", 0, 0, 0))
    attempt("device", lambda: call(number("mknodat"), -100, b"/tmp/disk", 0o60666, 0x800))
    for path in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/vda"):
        attempt(path, lambda: os.open(path, os.O_RDWR))
    for path in ("/usr/bin/made", "/etc/made", "/made", "/sys/made", "/dev/made", "/proc/made"):
        attempt(f"write {path}", lambda: os.open(path, os.O_WRONLY | os.O_CREAT))


def cgroups():
    attempt("list", lambda: os.listdir("/sys/fs/cgroup"))
    attempt("mount", lambda: call(number("mount"), b"none", b"/tmp", b"cgroup2", 0, 0))
    attempt("mount v1", lambda: call(number("mount"), b"none", b"/tmp", b"cgroup", 0, b"memory"))
    attempt("write", lambda: put("/proc/self/cgroup", "0::/"))
    for file in ("release_agent", "cgroup.procs", "memory.max", "cgroup.kill"):
        attempt(file, lambda: put(f"/sys/fs/cgroup/{file}", "1"))
    # its own is the root, as far as it can see
    SAID["seen"] = sorted({line.split(":", 2)[2].strip() for line in open("/proc/self/cgroup")})


def signals():
    for pid, whose in FACTS["pids"].items():
        attempt(f"kill {whose}", lambda: os.kill(int(pid), signal.SIGKILL) or "killed")
        attempt(f"kill group {whose}", lambda: os.killpg(int(pid), signal.SIGKILL) or "killed")
        attempt(f"tgkill {whose}", lambda: call(number("tgkill"), int(pid), int(pid), 9))
        attempt(f"pidfd {whose}", lambda: call(number("pidfd_open"), int(pid), 0))
        attempt(f"proc {whose}", lambda: os.listdir(f"/proc/{pid}"))
        # a pipe of ours that tells him when it can be read from, by a signal of our choice
        own, _ = os.pipe()
        attempt(f"owner {whose}", lambda: fcntl.fcntl(own, fcntl.F_SETOWN, int(pid)))
    # everybody but ourselves and the first: there is nobody
    attempt("everybody", lambda: os.kill(-1, signal.SIGKILL) or "killed")
    mine = call(number("pidfd_open"), 1, 0)
    attempt("descriptor of the first", lambda: call(number("pidfd_getfd"), mine, 0, 0))


def sockets():
    for path in FACTS["sockets"]:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(2)
        where = "\0" + path[1:] if path.startswith("@") else path
        attempt(path, lambda: one.connect(where) or "connected")
    for family, name in ((16, "netlink"), (17, "packet"), (40, "vsock"), (38, "alg"), (31, "bluetooth"), (29, "can"), (44, "xdp")):
        attempt(name, lambda: socket.socket(family, socket.SOCK_RAW))
    attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))


def kernel():
    for name in ("io_uring_setup", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key"):
        attempt(name, lambda: call(number(name), 0, 0, 0, 0, 0))
    for path in ("kernel/core_pattern", "kernel/modprobe", "vm/drop_caches", "kernel/hostname", "user/max_user_namespaces"):
        attempt(path, lambda: put(f"/proc/sys/{path}", "|/bin/true"))
    attempt("sysrq", lambda: put("/proc/sysrq-trigger", "h"))
    attempt("kcore", lambda: os.open("/proc/kcore", os.O_RDONLY))


def passing():
    # to the one socket that it has: a hundred times its own descriptors, and what may come back
    for _ in range(20):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(2)
        one.connect("/run/boundary/proxy.sock")
        files = [os.open("/usr", os.O_RDONLY) for _ in range(50)]
        one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        got, ancillary, _, _ = one.recvmsg(64, socket.CMSG_SPACE(4 * 64))
        SAID["answer"] = got.decode()
        SAID["handed in"] = sum(len(data) for _, _, data in ancillary)
        for file in files:
            os.close(file)
        one.close()


globals()[sys.argv[1]]()
print(json.dumps(SAID))
