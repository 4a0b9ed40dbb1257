"""Steps of the clock that one process sees while it runs. No other process sees them.

Owns the change of the process: `clock_gettime` of its vDSO, which programs in Go and in C call (vdso(7)), adds an offset to the
time of day from then on. Other clocks, such as the monotonic one, stay as they are.
"""

import os
import platform
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

# mov eax, 228 (clock_gettime); syscall; test edi, edi; jnz ret; mov rcx, [rip + 6]; add [rsi], rcx; ret. Then the offset.
_CODE: Final = bytes.fromhex("b8e4000000 0f05 85ff 750a 488b0d06000000 48010e c3 9090")
_OFFSET: Final = struct.Struct("<q")
# Elf64_Shdr and Elf64_Sym (elf(5)).
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_DYNSYM: Final = 11

needs_clock = pytest.mark.skipif(
    platform.machine() != "x86_64" or os.geteuid() != 0, reason="only root can change the clock of a process, on x86-64"
)


def step(pid: int, seconds: int) -> None:
    """Let a process see a time that is so many seconds ahead. 0 is the time of the machine."""
    found = re.search(r"^(\w+)-(\w+) .*\[vdso\]$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    assert found
    begin, end = (int(address, 16) for address in found.groups())
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        content = memory.read(end - begin)
        function = _function(content)
        # The free space at the end. A fork of a changed process has the code already.
        code = (len(content) - len(_CODE) - _OFFSET.size) // 8 * 8
        assert not any(content[code:]) or content[code:].startswith(_CODE)
        memory.seek(begin + code)
        memory.write(_CODE + _OFFSET.pack(seconds))
        # A jump, so that a thread that is in the function ends with the old code.
        memory.seek(begin + function)
        memory.write(struct.pack("<Bi", 0xE9, code - function - 5))


def _function(content: bytes) -> int:
    return next(value for name, value in _symbols(content) if name == b"clock_gettime")


def _symbols(content: bytes) -> Iterator[tuple[bytes, int]]:
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    sections = [_SECTION.unpack_from(content, table + index * size) for index in range(count)]
    symbols = next(one for one in sections if one[1] == _DYNSYM)
    names = sections[symbols[6]][4]
    for at in range(symbols[4], symbols[4] + symbols[5], _SYMBOL.size):
        name, _, _, _, value, _ = _SYMBOL.unpack_from(content, at)
        start = names + name
        yield content[start : content.index(b"\0", start)], value
