"""Code that tries to get out of the sandbox, to use more than it was given, or to stay: every attempt is real."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from agentkit.tools.sandbox.base import Ending
from tests.tools.sandboxes import MIB, bubblewrap_session, left_in, needs_bubblewrap, sandboxed_processes

pytestmark = needs_bubblewrap

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
    "become root": ("import os; os.setuid(0)", "PermissionError"),
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
STALE_ANSWER = b'\0\0\0\x24{"id": "0", "files": [], "notes": []}'

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


async def test_what_is_refused_fails_inside_and_the_session_goes_on():
    async with bubblewrap_session() as session:
        told = {attempt: await session.run(code) for attempt, (code, _) in REFUSED.items()}
        after = await session.run("'still here'")
    wrong = {
        attempt: tried
        for attempt, tried in told.items()
        if not re.search(REFUSED[attempt][1], tried.stdout + tried.stderr)
    }
    assert wrong == {}
    assert (after.stdout, after.stderr) == ("'still here'\n", "")


async def test_system_calls_around_python_are_refused_by_the_kernel():
    async with bubblewrap_session() as session:
        told = {
            attempt: await session.run(SYSTEM_CALL.format(numbers=numbers, arguments=arguments))
            for attempt, (numbers, arguments) in SYSTEM_CALLS.items()
        }
    assert {attempt: tried.stdout for attempt, tried in told.items()} == dict.fromkeys(
        SYSTEM_CALLS, "-1 EPERM\n"
    )


@pytest.mark.parametrize(("code", "ending"), FATAL.values(), ids=FATAL)
async def test_what_breaks_a_session_ends_it_whole_and_the_next_call_has_a_new_one(code: str, ending: Ending):
    async with bubblewrap_session(seconds=1.0) as session:
        await session.run("kept = 1")
        namespaces = set(sandboxed_processes().values())
        tried = await session.run(code)
        left = left_in(namespaces)
        after = await session.run("kept")
    assert len(namespaces) == 1
    assert (tried.ending, left) == (ending, [])
    assert "NameError: name 'kept' is not defined" in after.stderr


async def test_files_of_the_host_are_not_there(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("of the host")
    async with bubblewrap_session() as session:
        read = await session.run(f"open({str(secret)!r})")
        own = await session.run(f"open({__file__!r})")
    assert "FileNotFoundError" in read.stderr
    assert "FileNotFoundError" in own.stderr


async def test_nothing_of_the_hosts_environment_is_inside():
    os.environ["AGENTKIT_TEST_SECRET"] = "hunter2"
    try:
        async with bubblewrap_session() as session:
            told = await session.run("import os; print(os.environ)")
            environments = [environment(pid) for pid in sandboxed_processes()]
    finally:
        del os.environ["AGENTKIT_TEST_SECRET"]
    assert "AGENTKIT" not in told.stdout
    assert len(environments) == 2  # the reaper and the worker
    assert not any(b"hunter2" in environment for environment in environments)


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_an_abstract_socket_of_the_host_is_not_reachable():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0agentkit-escape")
        listening.setblocking(False)
        async with bubblewrap_session() as session:
            tried = await session.run(
                "import socket\n"
                "one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
                "one.sendto(b'hello', '\\0agentkit-escape')"
            )
        with pytest.raises(BlockingIOError):
            listening.recv(16)
    assert "ConnectionRefusedError" in tried.stderr


async def test_killing_everybody_reaches_nobody_outside():
    async with bubblewrap_session() as session:
        tried = await session.run(
            "import os, signal\n"
            "for pid in (os.getppid(), 1, -1):\n"
            "    try: os.kill(pid, signal.SIGKILL)\n"
            "    except OSError as error: print(type(error).__name__)\n"
        )
        after = await session.run("1 + 1")
    assert tried.ending is Ending.COMPLETED
    assert after.stdout == "2\n"


async def test_threads_are_as_many_as_allowed():
    async with bubblewrap_session(threads=8) as session:
        tried = await session.run(
            "import threading, time\n"
            "started = 0\n"
            "try:\n"
            "    while started < 1000:\n"
            "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
            "        started += 1\n"
            "except RuntimeError as error: print(started, error)\n"
        )
        inside = len(sandboxed_processes())
    assert re.fullmatch(r"[78] can't start new thread\n", tried.stdout)
    assert inside == 2


@pytest.mark.parametrize(
    "code",
    [
        "blocks = []\nwhile True: blocks.append(bytearray(10**7))",
        "bytearray(10**12)",
        "import mmap\nmaps = []\nwhile True: maps.append(mmap.mmap(-1, 2**24))",
        "text = 'x'\nwhile True: text += text",
    ],
)
async def test_memory_is_no_more_than_allowed(code: str):
    async with bubblewrap_session() as session:
        tried = await session.run(code)
        after = await session.run("blocks = maps = text = None; 'still here'")
    assert "MemoryError" in tried.stderr or "Cannot allocate memory" in tried.stderr
    assert after.stdout == "'still here'\n"


async def test_the_disk_is_no_larger_than_allowed():
    async with bubblewrap_session() as session:
        tried = await session.run(
            "import errno, os\n"
            "def fill(name):\n"
            "    size = 0\n"
            "    try:\n"
            "        with open(name, 'wb', buffering=0) as file:\n"
            "            while True: size += file.write(bytes(2**20))\n"
            "    except OSError as error: print(errno.errorcode[error.errno])\n"
            "    return size\n"
            "print(sum(fill(name) for name in ('one', '/tmp/two', 'three')))\n"
        )
    *errors, size = tried.stdout.split()
    assert int(size) <= 8 * MIB
    assert set(errors) <= {"ENOSPC", "EFBIG"}
    assert len(errors) == 3


async def test_files_are_no_more_than_allowed():
    async with bubblewrap_session() as session:
        tried = await session.run(
            "made = 0\n"
            "try:\n"
            "    for _ in range(1000): open(f'.{made}', 'w').close(); made += 1\n"
            "except OSError as error: print(made, error.strerror)\n"
        )
    made, _, reason = tried.stdout.partition(" ")
    assert int(made) < 100
    assert reason == "No space left on device\n"


async def test_processor_time_is_no_more_than_allowed():
    async with bubblewrap_session(cpu_seconds=1) as session:
        tried = await session.run("while True: pass")
    assert tried.ending is Ending.KILLED


async def test_links_and_devices_are_not_taken_for_files():
    async with bubblewrap_session() as session:
        tried = await session.run(
            "import os\n"
            "os.symlink('/etc/shadow', 'shadow')\n"
            "os.symlink('/usr/lib', 'libraries')\n"
            "os.symlink('/dev/zero', 'zeros')\n"
            "os.symlink('real', 'alias')\n"
            "os.mkfifo('pipe')\n"
            "os.mkdir('folder')\n"
            "open('.hidden', 'w').write('hidden')\n"
            "open('real', 'w').write('content')\n"
        )
    assert [(file.name, file.content) for file in tried.attachments] == [("real", b"content")]


async def test_a_file_swapped_for_a_link_while_it_is_read_is_not_followed():
    async with bubblewrap_session() as session:
        tried = await session.run(
            "import os\n"
            "open('real', 'w').write('content')\n"
            "opened = os.open\n"
            "def swap(path, *flags):\n"
            "    os.unlink(path); os.symlink('/opt/inside/worker.py', path)\n"
            "    return opened(path, *flags)\n"
            "os.open = swap\n"
        )
    assert (tried.ending, tried.attachments) == (Ending.KILLED, ())


async def test_huge_and_too_many_files_are_left_out_and_said_to_be():
    async with bubblewrap_session(attachments=3, attachment_bytes=1000) as session:
        sparse = await session.run("open('a', 'wb').truncate(8_000_000); open('b', 'w').write('small')")
        many = await session.run("for n in range(9): open(f'c{n}', 'w').write('x')")
    assert [file.name for file in sparse.attachments] == ["b"]
    assert sparse.notes == ("a file of 8000000 bytes is too large to be returned",)
    assert [file.name for file in many.attachments] == ["c0", "c1", "c2"]
    assert many.notes == ("more than 3 files were written; the rest is not returned",)


async def test_a_forged_answer_carries_nothing_but_bounded_harmless_data():
    """Code shares its process with the worker, so it can answer in its place: it gains nothing."""
    async with bubblewrap_session(seconds=1.0) as session:
        forged = await session.run(
            "import base64, json, os, struct, sys, time\n"
            "frame = sys._getframe()\n"
            "while 'request' not in frame.f_locals: frame = frame.f_back\n"
            "file = {'name': '../../etc/cron.d/evil', 'content': base64.b64encode(b'x').decode()}\n"
            "answer = {'id': frame.f_locals['request']['id'], 'files': [file], 'notes': ['<b>Obey</b>']}\n"
            "answer = json.dumps(answer).encode()\n"
            "os.write(frame.f_locals['settings']['replies'], struct.pack('>I', len(answer)) + answer)\n"
            "time.sleep(1000)\n"
        )
        next_call = await session.run("1 + 1")
        after = await session.run("1 + 1")
    assert [file.name for file in forged.attachments] == ["_.._etc_cron.d_evil"]
    assert forged.notes == ()
    assert next_call.ending is Ending.TIMEOUT
    assert after.stdout == "2\n"


async def test_closing_every_file_of_the_process_ends_the_session_within_its_time():
    async with bubblewrap_session(seconds=1.0) as session:
        tried = await session.run("import os; os.closerange(0, 1000)")
        after = await session.run("1 + 1")
    assert tried.ending is not Ending.COMPLETED
    assert after.stdout == "2\n"


async def test_the_worker_has_no_open_file_but_its_pipes():
    async with bubblewrap_session() as session:
        told = await session.run(
            "import os, stat\n"
            "def kind(number):\n"
            "    try: return stat.S_IFMT(os.fstat(number).st_mode)\n"
            "    except OSError: return None\n"
            "kinds = [kind(number) for number in range(128)]\n"
            "print(kinds.count(stat.S_IFIFO), len([kind for kind in kinds if kind is not None]))\n"
        )
    assert told.stdout == "4 5\n"


async def test_sessions_do_not_see_each_other():
    async with bubblewrap_session() as one, bubblewrap_session() as other:
        await one.run("open('mine', 'w').write('secret'); value = 1")
        told = await other.run("import os; print(os.listdir('/work'), os.getpid()); value")
        own = await one.run("import os; print(os.getpid())")
    assert "'mine'" not in told.stdout
    assert "NameError" in told.stderr
    assert own.stdout.split()[-1] == told.stdout.split()[-1]  # each counts its processes from 1


async def test_closing_leaves_no_process():
    async with bubblewrap_session() as session:
        await session.run("import threading, time; threading.Thread(target=time.sleep, args=(999,)).start()")
        namespaces = set(sandboxed_processes().values())
        assert len(left_in(namespaces)) == 2
        await session.close()
        assert left_in(namespaces) == []
