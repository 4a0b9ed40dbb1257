"""Loaded settings as memory that processes pass to each other: the loader to the supervisor, and that to retiring workers.

Owns the form of that memory and its descriptors. Never loads settings, and never decides what becomes of them.
"""

import mmap
import os
import pickle
from collections.abc import Sequence

from msgspec.structs import replace

from sidecar.config import Loaded
from sidecar.core.settings.domain_table import DomainTable


class Handover:
    """Descriptors of two files in memory: what was loaded without its domains, pickled, and the table of the domains.

    Whoever has one closes it. Any number of processes may read the same memory at the same time.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.descriptors = tuple(descriptors)

    def read(self) -> Loaded:
        """Return what was loaded, with the domains as a mapping of the shared table. Raise any exception where that fails."""
        # The system passes fewer descriptors where this process may not have as many (recvmsg(2), MSG_CTRUNC).
        values, table = self.descriptors
        # By a mapping: to read the file would move its position, which all processes share.
        with mmap.mmap(values, 0, prot=mmap.PROT_READ) as content:
            loaded: Loaded = pickle.loads(content)  # noqa: S301 - written by our own child, and by nobody else
        if loaded.settings is None:
            return loaded
        domains = DomainTable(table)
        return replace(loaded, settings=replace(loaded.settings, domains=domains))

    def close(self) -> None:
        """Close the descriptors. May be called again."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


def in_memory(name: str, content: bytes) -> int:
    """Write content into a file that exists in memory only. Return its descriptor."""
    descriptor = os.memfd_create(f"sidecar-{name}")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor
