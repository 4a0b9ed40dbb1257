"""The ledger of the quarantine: the bytes used in all, and by each network.

Owns the layout of the file. Never looks at a message.
"""

import os
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from itertools import chain
from struct import Struct

# The total in digits, a salt, and cells: each network has one, by the hash of its name. Two networks may share a cell; with the
# salt nobody can choose to. The file has 32 kB, however many networks there are.
_DIGITS, _SALT, _CELLS = 20, 16, 4096
_HEAD = _DIGITS + _SALT
_CELL = Struct("<Q")


class Ledger:
    """An open ledger, which the caller has locked. If it is not `whole`, it is new or damaged: `fill` it first."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        head = os.pread(descriptor, _HEAD, 0)
        self.whole = head[:_DIGITS].isdigit() and os.fstat(descriptor).st_size == _HEAD + _CELLS * _CELL.size
        self.total = int(head[:_DIGITS]) if self.whole else 0
        self._salt = head[_DIGITS:]

    def used(self, network: str) -> int:
        """Return the bytes used by a network, and by those that share its cell. Raises OSError."""
        used: int = _CELL.unpack(os.pread(self._descriptor, _CELL.size, self._at(network)))[0]
        return used

    def add(self, network: str, size: int) -> None:
        """Add bytes to a network and to the total, or take them away. Raises OSError."""
        self.total = max(0, self.total + size)
        os.pwrite(self._descriptor, b"%0*d" % (_DIGITS, self.total), 0)
        os.pwrite(self._descriptor, _CELL.pack(max(0, self.used(network) + size)), self._at(network))

    def fill(self, sizes: Mapping[str, int]) -> None:
        """Write the ledger again, from the bytes of each network. Raises OSError."""
        self._salt = secrets.token_bytes(_SALT)
        self.total = sum(sizes.values())
        cells = [0] * _CELLS
        for network, size in sizes.items():
            cells[self._cell(network)] += size
        parts = chain((b"%0*d" % (_DIGITS, self.total), self._salt), map(_CELL.pack, cells))
        # In one call: what a crash cuts off is not whole.
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"".join(parts), 0)
        self.whole = True

    def _at(self, network: str) -> int:
        return _HEAD + self._cell(network) * _CELL.size

    def _cell(self, network: str) -> int:
        return int.from_bytes(blake2b(network.encode(), key=self._salt, digest_size=8).digest(), "little") % _CELLS
