"""The system calls that code in the sandbox may not make, as a seccomp filter. Knows nothing of Python sessions.

No process is ever started inside: there is nothing to run, and one process makes every other limit hold.
"""

import platform
import struct

# name: (number on x86_64, number on aarch64). None where the machine has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # starting processes, and reaching into others
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    # sockets; socketpair stays, for asyncio
    "socket": (41, 198),
    # memory that no limit of the process counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    # parts of the kernel that have often been broken, and that computing needs not
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "lookup_dcookie": (212, 18),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    # the machine itself
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
}
# machine: (column above, AUDIT_ARCH_* of linux/audit.h, number of clone)
_MACHINES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}
_CLONE3 = 435
# The first number that this list does not know. Callers take ENOSYS as "an older kernel".
_UNKNOWN = 463
_X32 = 0x4000_0000
_CLONE_THREAD = 0x0001_0000

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
# linux/bpf_common.h: load a word; jump if equal, if at least, if a bit is set; return.
_LOAD, _EQUAL, _AT_LEAST, _BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


def filter_program() -> bytes:
    """Return the filter for this machine, as an array of struct sock_filter.

    Raises:
        OSError: if the system calls of this machine are not listed here.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(f"no list of system calls for {machine}; there is one for {', '.join(_MACHINES)}")
    column, architecture, clone = _MACHINES[machine]
    numbers = [number for row in _REFUSED.values() if (number := row[column]) is not None]
    program = [
        *(_load(_ARCHITECTURE), _jump(_EQUAL, architecture, 1, 0), _give(_KILL), _load(_NUMBER)),
        *_unless(_BIT, _X32, _ENOSYS),
        *_unless(_AT_LEAST, _UNKNOWN, _ENOSYS),
        *_unless(_EQUAL, _CLONE3, _ENOSYS),
    ]
    for number in numbers:
        program += _unless(_EQUAL, number, _EPERM)
    program += [
        _jump(_EQUAL, clone, 0, 3),
        _load(_FIRST_ARGUMENT),
        _jump(_BIT, _CLONE_THREAD, 1, 0),
        _give(_ERRNO | _EPERM),
        _give(_ALLOW),
    ]
    return b"".join(program)


def _unless(test: int, value: int, errno: int) -> list[bytes]:
    """Refuse where the number passes the test, else go on."""
    return [_jump(test, value, 0, 1), _give(_ERRNO | errno)]


def _load(offset: int) -> bytes:
    return _jump(_LOAD, offset, 0, 0)


def _give(verdict: int) -> bytes:
    return _jump(_RETURN, verdict, 0, 0)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
