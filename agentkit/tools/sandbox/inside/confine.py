"""Gives up, for good, everything that bubblewrap left to this process. Runs before any code of a model does.

Every step either works or ends the process: the host takes a worker that does not report for a failed start.
"""

import ctypes
import os
import resource
import socket

from .system_calls import filter_program

USER = 1000
WORK = "/work"
TEMPORARY = "/work/.tmp"

# linux/mount.h, linux/prctl.h, linux/capability.h
_NOSUID, _NODEV, _NOEXEC, _REMOUNT = 2, 4, 8, 32
_SET_SECCOMP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 22, 38, 47
_FILTER_MODE, _CLEAR_ALL = 2, 4
_CAPABILITY_VERSION = 0x2008_0522

_OPEN_FILES = 128


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def confine(limits: dict[str, int]) -> None:
    """Bound the work folder and this process, become nobody, and close the kernel's doors.

    Raises:
        OSError: if a step failed, or a door that must be closed opens.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _bound_work_folder(libc, limits)
    _become_nobody(libc)
    _set_limits(limits)
    _refuse_system_calls(libc)
    _check()
    os.chdir(WORK)
    os.mkdir(TEMPORARY, 0o700)


def _bound_work_folder(libc: ctypes.CDLL, limits: dict[str, int]) -> None:
    options = f"size={limits['disk_bytes']},nr_inodes={limits['files']}".encode()
    flags = _REMOUNT | _NOSUID | _NODEV | _NOEXEC
    _succeed(
        libc.mount(b"none", WORK.encode(), None, ctypes.c_ulong(flags), options), "bounding the work folder"
    )


def _become_nobody(libc: ctypes.CDLL) -> None:
    if os.getuid() != USER:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    _succeed(libc.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0), "dropping ambient capabilities")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    _succeed(libc.capset(header, none), "dropping capabilities")


def _set_limits(limits: dict[str, int]) -> None:
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_FSIZE: limits["disk_bytes"],
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        # The reaper of the sandbox may count as one of this user's.
        resource.RLIMIT_NPROC: limits["threads"] + 1,
        resource.RLIMIT_AS: limits["memory_bytes"],
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def _refuse_system_calls(libc: ctypes.CDLL) -> None:
    _succeed(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "refusing new privileges")
    instructions = filter_program()
    program = _Program(len(instructions) // 8, instructions)
    _succeed(libc.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0), "filtering system calls")


def _check() -> None:
    """Try what must fail: a wrong number in the filter would go unnoticed otherwise."""
    if 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid()):
        raise OSError("the worker is still root")
    for open_door in (_forks, _opens_socket):
        try:
            open_door()
        except PermissionError:
            continue
        raise OSError(f"the filter of system calls does not hold: {open_door.__name__}")


def _forks() -> None:
    if os.fork() == 0:
        os._exit(0)


def _opens_socket() -> None:
    socket.socket(socket.AF_UNIX).close()


def _succeed(result: int, step: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{step} failed")
