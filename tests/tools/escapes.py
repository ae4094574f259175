"""What code may try in order to leave its sandbox, to use more than it was given, or to stay."""

from __future__ import annotations

from agentkit.tools.sandbox.base import Ending

SYSTEM_CALL = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
numbers = {numbers}
number = numbers[platform.machine()]
result = libc.syscall(number, *{arguments})
print(result, errno.errorcode.get(ctypes.get_errno()))
"""

# What is tried, and what the code is told.
REFUSED = {
    "read /etc/shadow": ("open('/etc/shadow')", "FileNotFoundError"),
    "read the host's root": ("import os; print(*os.listdir('/'))", r"^(?:(?:dev|lib|lib64|opt|tmp|usr|work)\s)+3?$"),
    "list home folders": ("import os; sum(map(os.path.exists, ['/home', '/root', '/etc', '/proc', '/sys']))", r"^0$"),
    "leave by dots": ("import os; os.listdir('../../../..') == os.listdir('/')", "True"),
    "read another process's environment": ("open('/proc/1/environ')", "FileNotFoundError"),
    "read the host's packages": ("import os; os.listdir(os.path.dirname(os.__file__) + '/site-packages')", r"\[\]"),
    "open a terminal": ("open('/dev/tty')", "FileNotFoundError"),
    "read a disk": ("import os; sorted(os.listdir('/dev'))", r"\['null', 'random', 'urandom', 'zero'\]"),
    "connect over TCP": ("import socket; socket.create_connection(('127.0.0.1', 22))", "PermissionError"),
    "open a UDP socket": ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "PermissionError"),
    "open a raw socket": ("import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "PermissionError"),
    "open a Unix socket": ("import socket; socket.socket(socket.AF_UNIX)", "PermissionError"),
    "fetch a page": ("import urllib.request; urllib.request.urlopen('http://192.0.2.1')", "PermissionError"),
    "fork": ("import os; os.fork()", "PermissionError"),
    "bomb with forks": ("import os\nwhile True: os.fork()", "PermissionError"),
    "start a program": ("import subprocess; subprocess.run(['/opt/python/bin/python3'])", "PermissionError"),
    "spawn a program": ("import os; os.posix_spawn('/opt/python/bin/python3', ['x'], {})", "PermissionError"),
    "become a program": ("import os; os.execv('/opt/python/bin/python3', ['x'])", "PermissionError"),
    "start a worker": ("import multiprocessing as m; m.get_context('fork').Process().start()", "PermissionError"),
    "leave a daemon behind": ("import os\nif not os.fork():\n    os.setsid()\n    os.fork()", "PermissionError"),
    "become root": ("import os; os.setuid(0)", "PermissionError|Invalid argument"),
    "change the root": ("import os; os.chroot('/work')", "PermissionError"),
    "make a device": ("import os, stat; os.mknod('disk', stat.S_IFBLK | 0o600, 2048)", "PermissionError"),
    "write into Python": ("open('/opt/python/lib/evil.py', 'w')", "Read-only|PermissionError"),
    "write into the worker": ("open('/opt/inside/worker.py', 'a')", "Read-only|PermissionError"),
    "write into the root": ("open('/evil', 'w')", "Read-only|PermissionError"),
    "write into system libraries": ("import os; os.mkdir('/usr/lib/evil')", "Read-only|PermissionError"),
    "change the clock": ("import time; time.clock_settime(time.CLOCK_REALTIME, 0)", "PermissionError"),
    "rename the host": ("import socket; socket.sethostname('evil')", "PermissionError"),
    "raise a limit": ("import resource as r; r.setrlimit(r.RLIMIT_AS, (-1, -1))", "ValueError|PermissionError"),
    "take more priority": ("import os; os.setpriority(os.PRIO_PROCESS, 0, -20)", "PermissionError"),
}  # fmt: skip

SYSTEM_CALLS = {
    "clone": ({"x86_64": 56, "aarch64": 220}, (17, 0, 0, 0, 0)),
    "clone into a new user namespace": ({"x86_64": 56, "aarch64": 220}, (0x10000000 | 17, 0, 0, 0, 0)),
    "unshare users": ({"x86_64": 272, "aarch64": 97}, (0x10000000,)),
    "unshare mounts": ({"x86_64": 272, "aarch64": 97}, (0x00020000,)),
    "mount": ({"x86_64": 165, "aarch64": 40}, (b"none", b"/work", b"tmpfs", 0, 0)),
    "bind mount": ({"x86_64": 165, "aarch64": 40}, (b"/usr", b"/work", 0, 4096, 0)),
    "unmount": ({"x86_64": 166, "aarch64": 39}, (b"/work", 2)),
    "enter a namespace": ({"x86_64": 308, "aarch64": 268}, (0, 0)),
    "ptrace the first process": ({"x86_64": 101, "aarch64": 117}, (16, 1, 0, 0)),
    "read another's memory": ({"x86_64": 310, "aarch64": 270}, (1, 0, 0, 0, 0, 0)),
    "memory outside of the limits": ({"x86_64": 319, "aarch64": 279}, (b"x", 0)),
    "shared memory outside of the limits": ({"x86_64": 29, "aarch64": 194}, (0, 4096, 0o1600)),
    "io_uring": ({"x86_64": 425, "aarch64": 425}, (8, 0)),
    "bpf": ({"x86_64": 321, "aarch64": 280}, (0, 0, 0)),
    "userfaultfd": ({"x86_64": 323, "aarch64": 282}, (0,)),
    "perf events": ({"x86_64": 298, "aarch64": 241}, (0, 0, -1, -1, 0)),
    "the kernel's keys": ({"x86_64": 250, "aarch64": 219}, (0, -3, 0)),
    "another personality": ({"x86_64": 135, "aarch64": 92}, (0x0040000,)),
    "the kernel's log": ({"x86_64": 103, "aarch64": 116}, (3, 0, 0)),
}  # fmt: skip

WRITE_EVERYWHERE = """
import os
for number in range(3, 30):
    try: os.write(number, {data})
    except OSError: pass
"""
BURN_IN_THREADS = """
import threading
def burn():
    while True: pass
for _ in range(4): threading.Thread(target=burn, daemon=True).start()
burn()
"""
IGNORE_SIGNALS = """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
time.sleep(1000)
"""
CATCH_EVERYTHING = """
while True:
    try:
        while True: pass
    except BaseException: pass
"""
STALE_ANSWER = b'\0\0\0\x29\0\0\0\x25{"id": "0", "files": [], "notes": []}'

# What ends or breaks the session. The host goes on, and so does the next call, in a new session.
FATAL = {
    "exit at once": ("import os; os._exit(0)", Ending.KILLED),
    "kill itself": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Ending.KILLED),
    "crash": ("import ctypes; ctypes.string_at(0)", Ending.KILLED),
    "print without end": ("while True: print('x' * 10_000)", Ending.KILLED),
    "burn the processor": ("while True: pass", Ending.TIMEOUT),
    "burn it in threads": (BURN_IN_THREADS, Ending.TIMEOUT),
    "sleep": ("import time; time.sleep(1000)", Ending.TIMEOUT),
    "ignore every signal": (IGNORE_SIGNALS, Ending.TIMEOUT),
    "catch everything": (CATCH_EVERYTHING, Ending.TIMEOUT),
    "stop itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", Ending.TIMEOUT),
    "wait for a fifo": ("import os; os.mkfifo('pipe'); open('pipe')", Ending.TIMEOUT),
    "send a frame of 4 GiB": (WRITE_EVERYWHERE.format(data=b"\xff" * 64), Ending.KILLED),
    "send half a frame": (WRITE_EVERYWHERE.format(data=b"\0\0\1\0{") + "os._exit(0)", Ending.KILLED),
    "send another answer": (WRITE_EVERYWHERE.format(data=STALE_ANSWER), Ending.KILLED),
}
