"""Run by an agent: looks for what looks like a credential in everything it can reach, and says where.

Arguments: words to find, each reversed, so that looking for them does not put them anywhere. With
`--ancestors` before them, where the world is the whole machine, only the processes that started this
one are looked at.
"""

import ctypes
import os
import re
import socket
import stat
import struct
import sys
import time

ANCESTORS = sys.argv[1:2] == ["--ancestors"]
WORDS = [word[::-1].encode() for word in sys.argv[1 + ANCESTORS :]]
# Every kind of credential the product makes, wherever it comes from.
KINDS = re.compile(b"sk-" + b"ant-" + rb"(?:oat01|req|api03)-[A-Za-z0-9_-]{16,}")
ME = str(os.getpid())
# Larger files hold packages, not credentials; what is read of one mapping at a time.
MAX_FILE = 32 << 20
CHUNK = 8 << 20
DAY_S = 86_400
MAX_FILES = 200_000

found = set()
looked = dict.fromkeys(("files", "processes", "mappings", "descriptors", "sockets", "ports", "keys"), 0)


def look(where, data):
    for word in WORDS:
        if word in data:
            found.add(f"a word in {where}")
    if KINDS.search(data):
        found.add(f"a credential in {where}")


def read(path, limit=MAX_FILE):
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(limit) or b""
    except OSError:
        return b""


def environment():
    look("my environment", "\0".join(f"{k}={v}" for k, v in os.environ.items()).encode())


def memory(pid):
    """Every mapping of another process, through its memory file and by asking the kernel."""
    maps = read(f"/proc/{pid}/maps").decode(errors="replace")
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        mem = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except OSError:
        mem = None
    for line in maps.splitlines():
        span, rights = line.split()[:2]
        if "r" not in rights or line.endswith("[vvar]"):
            continue
        start, end = (int(x, 16) for x in span.split("-"))
        looked["mappings"] += 1
        for at in range(start, end, CHUNK):
            size = min(CHUNK, end - at)
            data = b""
            if mem is not None:
                try:
                    mem.seek(at)
                    data = mem.read(size) or b""
                except (OSError, ValueError, OverflowError):
                    pass
            if not data:
                buffer = ctypes.create_string_buffer(size)
                local = struct.pack("PN", ctypes.addressof(buffer), size)
                remote = struct.pack("PN", at, size)
                got = libc.process_vm_readv(int(pid), local, 1, remote, 1, 0)
                data = buffer.raw[:got] if got > 0 else b""
            look(f"the memory of process {pid}", data)


def ancestors():
    pid = os.getppid()
    while pid > 1:
        yield str(pid)
        pid = int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])


def processes():
    for pid in ancestors() if ANCESTORS else filter(str.isdigit, os.listdir("/proc")):
        if pid == ME:
            continue
        looked["processes"] += 1
        for name in ("environ", "cmdline", "stat", "auxv", "stack", "mountinfo", "cgroup"):
            look(f"{name} of process {pid}", read(f"/proc/{pid}/{name}", CHUNK))
        memory(pid)
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for fd in descriptors:
            path = f"/proc/{pid}/fd/{fd}"
            try:
                kind = os.stat(path).st_mode
            except OSError:
                continue
            looked["descriptors"] += 1
            if stat.S_ISREG(kind):
                look(f"descriptor {fd} of process {pid}", read(path))


def files():
    """Everything but what came with the system and is old."""
    now = time.time()
    for folder, below, names in os.walk("/"):
        if folder in ("/proc", "/sys") or looked["files"] > MAX_FILES:
            below.clear()
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                found_at = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISSOCK(found_at.st_mode):
                ask(path)
            if not stat.S_ISREG(found_at.st_mode) or found_at.st_size > MAX_FILE:
                continue
            if folder.startswith("/usr") and now - max(found_at.st_mtime, found_at.st_ctime) > DAY_S:
                continue
            looked["files"] += 1
            look(path, read(path))


def ask(address):
    """What something that listens says of its own accord, or to a request."""
    looked["sockets"] += 1
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(1)
            end.connect(address)
            end.sendall(b"GET / HTTP/1.0\r\n\r\n")
            look(f"what {address!r} says", end.recv(CHUNK))
    except OSError:
        pass


def sockets():
    for line in read("/proc/net/unix").decode(errors="replace").splitlines()[1:]:
        name = line.split(maxsplit=7)[7:]
        if name and name[0].startswith("@"):
            ask("\0" + name[0][1:])
        elif name:
            ask(name[0])
    for port in range(1, 65536):
        with socket.socket() as end:
            end.settimeout(0.2)
            if end.connect_ex(("127.0.0.1", port)) != 0:
                continue
            looked["ports"] += 1
            try:
                end.sendall(b"GET / HTTP/1.0\r\n\r\n")
                look(f"what port {port} says", end.recv(CHUNK))
            except OSError:
                pass


def keys():
    text = read("/proc/keys")
    looked["keys"] = text.count(b"\n")
    look("the keyrings", text)


for part in (environment, processes) if ANCESTORS else (environment, processes, files, sockets, keys):
    part()
print("looked at", " ".join(f"{n} {what}" for what, n in looked.items()))
for one in sorted(found)[:100]:
    print("FOUND", one)
print("done")
