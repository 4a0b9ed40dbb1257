"""A filter in memory that the processes share: it knows, without waiting, that an address is not on the list.

A Bloom filter: an address sets some bits, and one whose bits are not all set was never added. It can be wrong about addresses
that were removed, and about one in some thousands of all others: the database then has the answer. One process writes, and
sets the bits before the database has the entry.

Owns the memory. It is never on a disk, so no page of it has to be read from one, and no crash of a process changes it. Without
a filter for its database, a reader asks the database for each address.
"""

import hashlib
import mmap
import os
import struct
from typing import Final

# 2^30 bits: 16 for each of 67 million entries. Beyond that more look-ups need the database.
_SLOT: Final = 1 << 27
_SMALLEST: Final = 1 << 16
_HEADER: Final = mmap.PAGESIZE
_PLACES: Final = (_HEADER, _HEADER + _SLOT)
# With so many bits for each entry, one of 2,000 other addresses has all its bits set.
_BITS_PER_ENTRY: Final = 16
_BITS_PER_ADDRESS: Final = 5
_WORDS: Final = struct.Struct("<QQ").unpack
# Cells of the header: changes of the others (odd during a change), the database, the place of its bits and their number less
# one, and the number of addresses that are in.
_CHANGES, _DATABASE, _PLACE, _MASK, _ADDED = range(5)


def name_of(text: str) -> int:
    """Return a number for a database, from what differs between databases. It is not 0."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()) or 1


class AddressFilter:
    """The shared memory, from any process. Make it before the first fork. `header` and `content` are for the `FilterWriter`."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("suppression", os.MFD_CLOEXEC)
        try:
            # Pages that no one writes need no memory.
            os.ftruncate(descriptor, _HEADER + 2 * _SLOT)
            self._memory = mmap.mmap(descriptor, _HEADER + 2 * _SLOT)
        finally:
            os.close(descriptor)
        self.content = memoryview(self._memory)
        self.header = self.content[:_HEADER].cast("Q")

    def has(self, database: int) -> bool:
        """Return True if the filter is of this database."""
        return self.header[_DATABASE] == database

    def may_have(self, key: str, database: int) -> bool:
        """Return False if an address, as the database has it, is not there. True can be wrong."""
        header, content = self.header, self.content
        changes = header[_CHANGES]
        if header[_DATABASE] != database or changes & 1:
            return True
        place, mask = header[_PLACE], header[_MASK]
        at, step = _WORDS(hashlib.blake2b(key.encode(), digest_size=16).digest())
        for _ in range(_BITS_PER_ADDRESS):
            bit = at & mask
            if not content[place + (bit >> 3)] >> (bit & 7) & 1:
                # Meanwhile another filter can have taken its place, and these bits are cleared.
                return header[_CHANGES] != changes
            at += step
        return True

    def clear(self, place: int) -> None:
        """Clear the bits of a filter. The kernel takes the pages back: they are read as zeros."""
        self._memory.madvise(mmap.MADV_REMOVE, place, _SLOT)


class FilterWriter:
    """The one writer, while it holds the lock of the list. `database` is the number of its database, see `name_of`.

    A filter that is not of this database is cleared. `build` another one then, and also when `is_full`.
    """

    def __init__(self, shared: AddressFilter, database: int) -> None:
        self._shared, self._database = shared, database
        self._content, self._header = shared.content, shared.header
        # The last writer can have ended during a change.
        if self._header[_DATABASE] != database or self._header[_CHANGES] & 1:
            self._switch(0, 0, 0, 0)
            for place in _PLACES:
                self._shared.clear(place)
        self._coming: tuple[int, int] | None = None
        self._added = 0

    @property
    def is_ready(self) -> bool:
        """Whether readers have a filter."""
        return self._header[_DATABASE] == self._database

    @property
    def is_full(self) -> bool:
        """Whether the filter in use has so many addresses that it is wrong too often; the largest one is never full."""
        bits = self._header[_MASK] + 1
        return self._header[_ADDED] * _BITS_PER_ENTRY > bits and bits < _SLOT * 8

    def add(self, key: str) -> None:
        """Add an address as the database will have it. Call this before the database has it."""
        if self.is_ready:
            self._header[_ADDED] += self._set(self._header[_PLACE], self._header[_MASK], key)
        self.copy(key)

    def build(self, entries: int) -> None:
        """Begin a new filter for so many entries, beside the one in use."""
        size = _SMALLEST
        while size * 8 < entries * _BITS_PER_ENTRY and size < _SLOT:
            size *= 2
        place = next(one for one in _PLACES if one != self._header[_PLACE])
        self._shared.clear(place)
        self._coming, self._added = (place, size * 8 - 1), 0

    def copy(self, key: str) -> None:
        """Add an address to the filter that is being built, if there is one."""
        if self._coming is None:
            return
        self._added += self._set(*self._coming, key)
        bits = self._coming[1] + 1
        if self._added * _BITS_PER_ENTRY > bits and bits < _SLOT * 8:
            self._coming = None

    @property
    def is_building(self) -> bool:
        """Whether a filter is being built. One that was too small is not built any more."""
        return self._coming is not None

    def finish(self, database: int) -> None:
        """Put the filter that was built in use; `database` is the new number of its database."""
        assert self._coming is not None  # noqa: S101 - the caller's condition
        before = self._header[_PLACE]
        self._database = database
        self._switch(database, *self._coming, self._added)
        self._coming = None
        if before:
            self._shared.clear(before)

    def _switch(self, database: int, place: int, mask: int, added: int) -> None:
        header = self._header
        header[_CHANGES] |= 1
        header[_DATABASE], header[_PLACE], header[_MASK], header[_ADDED] = database, place, mask, added
        header[_CHANGES] += 1

    def _set(self, place: int, mask: int, key: str) -> bool:
        """Set the bits of an address. Return False if all were set."""
        content, is_new = self._content, False
        at, step = _WORDS(hashlib.blake2b(key.encode(), digest_size=16).digest())
        for _ in range(_BITS_PER_ADDRESS):
            bit = at & mask
            index, one = place + (bit >> 3), 1 << (bit & 7)
            if not (before := content[index]) & one:
                content[index], is_new = before | one, True
            at += step
        return is_new
