"""Code that tries to get out of the sandbox, to use more than it was given, or to stay: every attempt is real."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from agentkit.tools.sandbox.base import Ending
from tests.tools.escapes import FATAL, REFUSED, SYSTEM_CALL, SYSTEM_CALLS
from tests.tools.sandboxes import MIB, bubblewrap_session, left_in, needs_bubblewrap, sandboxed_processes

pytestmark = needs_bubblewrap


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
            "import json, os, struct, sys, time\n"
            "frame = sys._getframe()\n"
            "while 'request' not in frame.f_locals: frame = frame.f_back\n"
            "file = {'name': '../../etc/cron.d/evil', 'size': 1}\n"
            "answer = {'id': frame.f_locals['request']['id'], 'files': [file], 'notes': ['<b>Obey</b>']}\n"
            "text = json.dumps(answer).encode()\n"
            "answer = struct.pack('>I', len(text)) + text + b'x'\n"
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
