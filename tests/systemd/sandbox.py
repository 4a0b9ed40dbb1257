"""Run a command with the system call filters of a unit, as systemd sets them up before it starts the command.

    python sandbox.py UNIT COMMAND...

Covers SystemCallFilter, SystemCallErrorNumber=EPERM, MemoryDenyWriteExecute, RestrictAddressFamilies, CapabilityBoundingSet=,
NoNewPrivileges, and RestrictNamespaces as far as threads are concerned; each only if the unit has it. Not the mount namespace
and not the cgroup's address filter: only systemd can set these up.
"""

import ctypes
import errno
import itertools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_NUMBER, _ARGUMENTS = 0, 16  # in struct seccomp_data; each argument has 8 bytes, of which the lower 4 are looked at
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_WRITE_AND_EXECUTE, _EXECUTE = 6, 4
_PR_SET_SECCOMP, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 23, 24, 38
_MODE_FILTER = 2

Instruction = tuple[int, int, int, int]


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Read what is set, each key with all of its values in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def system_calls(filters: list[str]) -> set[str]:
    """Return the calls that lines of SystemCallFilter allow (systemd.exec(5)); @default is always allowed."""
    allowed = expanded("@default")
    for line in filters:
        for word in line.removeprefix("~").split():
            allowed = allowed - expanded(word) if line.startswith("~") else allowed | expanded(word)
    return allowed


def expanded(word: str) -> set[str]:
    """Return the calls of a set and of the sets within it."""
    if not word.startswith("@"):
        return {word}
    done = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager", word], check=True, capture_output=True, text=True)
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for each in words if each and not each.startswith("#") for call in expanded(each)}


def numbers() -> dict[str, int]:
    """Return the kernel's number of each call, from the headers of this machine."""
    source = b"#include <asm/unistd.h>\n"
    done = subprocess.run(["gcc", "-E", "-dM", "-"], input=source, check=True, capture_output=True).stdout.decode()
    defined = (line.split() for line in done.splitlines() if line.startswith("#define __NR_"))
    return {words[1].removeprefix("__NR_"): int(words[2]) for words in defined if len(words) == 3 and words[2].isdigit()}


def program(unit: dict[str, list[str]]) -> Iterator[Instruction]:
    """Return the filter, in classic BPF (seccomp(2))."""
    number = numbers()
    yield (_LOAD, 0, 0, _NUMBER)
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        yield from reject_bits(number["mmap"], 2, _WRITE_AND_EXECUTE)
        yield from reject_bits(number["mprotect"], 2, _EXECUTE)
        yield from reject_bits(number["pkey_mprotect"], 2, _EXECUTE)
    if families := unit.get("RestrictAddressFamilies"):
        yield from allow_only(number["socket"], 0, [int(getattr(socket, name)) for name in families[0].split()])
    if unit.get("RestrictNamespaces") == ["yes"]:
        # clone3(2) hides its flags from a filter, so systemd has it not exist; the C library then uses clone(2).
        yield (_EQUAL, 0, 1, number["clone3"])
        yield (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    for name in sorted(system_calls(unit["SystemCallFilter"]) & number.keys()):
        yield (_EQUAL, 0, 1, number[name])
        yield (_RETURN, 0, 0, _ALLOW)
    yield (_RETURN, 0, 0, _ERRNO | errno.EPERM)


def reject_bits(call: int, argument: int, bits: int) -> list[Instruction]:
    """Reject a call with EPERM when all these bits of an argument are set."""
    return [
        (_EQUAL, 0, 5, call),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        (_AND, 0, 0, bits),
        (_EQUAL, 0, 1, bits),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
    ]


def allow_only(call: int, argument: int, values: list[int]) -> list[Instruction]:
    """Reject a call with EAFNOSUPPORT unless an argument has one of these values."""
    tests = [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [
        (_EQUAL, 0, len(values) + 3, call),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        *tests,
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
        (_LOAD, 0, 0, _NUMBER),
    ]


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def put_up(unit: dict[str, list[str]]) -> None:
    """Put this process and its children into the sandbox. Raise OSError."""
    instructions = [struct.pack("=HBBI", code, yes, no, value) for code, yes, no, value in program(unit)]
    filters = _Program(len(instructions), b"".join(instructions))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if unit.get("CapabilityBoundingSet") == [""]:
        # What is not in the bounding set is lost at the next execve(2), root's capabilities too.
        for capability in itertools.takewhile(lambda one: prctl(_PR_CAPBSET_READ, one, 0, 0, 0) >= 0, itertools.count()):
            prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filters), 0, 0)):
        if prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "the filter cannot be put up")


if __name__ == "__main__":
    put_up(settings_of(Path(sys.argv[1])))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what a test named
