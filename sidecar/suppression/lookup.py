"""The list as the milter asks it: the filter in memory for most addresses, the database for those that can be there.

Owns when the database is opened again: other settings, another file in its place, a fault. Any thread can ask. SQLite is
loaded with the first look-up: a worker that looks no one up does not need it.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from sidecar import log
from sidecar.core.session.suppressing import UnreadableListError
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.suppression.filter import AddressFilter
from sidecar.suppression.reading import normal_key
from sidecar.suppression.rules import ListEntry

if TYPE_CHECKING:
    from sidecar.suppression.opened import OpenedList

# A list that cannot be read stays so, and each recipient would have a line.
_LOG_SECONDS: Final = 60.0

# Nearly all addresses: in lower case they are in normal form. This takes a third of the time of `normal_key`.
_PLAIN: Final = re.compile(r"[a-z0-9.+_=-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,3}", re.ASCII)

_LOG = log.get("suppression")


def key_of(address: str) -> str | None:
    """Return what `normal_key` returns."""
    if address.isascii() and _PLAIN.fullmatch(lowered := address.lower()):
        return lowered
    return normal_key(address)


class Lookup:
    """The list of any settings. Without a filter, the database has the answer for each address."""

    def __init__(self, shared: AddressFilter | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._filter = shared
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: OpenedList | None = None
        self._log_at = 0.0
        # When the list was found unreadable last, and why.
        self._fault_at, self._fault = 0.0, ""

    def may_have(self, settings: SuppressionSettings, address: str) -> bool:
        """Return False if an address is not on the list. This waits for nothing, and True can be wrong."""
        opened, shared = self._opened, self._filter
        if shared is None or opened is None or opened.settings is not settings:
            return True
        key = key_of(address)
        return key is not None and shared.may_have(opened.database.key(key), opened.filter)

    def find(self, settings: SuppressionSettings, address: str, now: int) -> ListEntry | None:
        """Return the entry of an address at a time. This can wait for the disk. Raise UnreadableListError."""
        asked = time.monotonic()
        if not self.may_have(settings, address) or (key := key_of(address)) is None:
            return None
        from sidecar.journal.database import StoreError, database_faults  # noqa: PLC0415 - see the module

        with self._lock:
            # Those that waited for a look-up that failed do not wait for another one, one after the other.
            if self._fault_at > asked:
                raise UnreadableListError(self._fault)
            try:
                with database_faults(settings.database):
                    return self._current(settings).database.find(key, now)
            except StoreError as error:
                self._close()
                self._fault_at, self._fault = time.monotonic(), str(error)
                self._log(str(error), settings)
                raise UnreadableListError(str(error)) from error

    def _current(self, settings: SuppressionSettings) -> "OpenedList":
        from sidecar.suppression.opened import OpenedList  # noqa: PLC0415 - see the module

        opened = self._opened
        if opened is None or opened.settings is not settings or not opened.is_current():
            self._close()
            opened = self._opened = OpenedList(settings)
        elif self._filter is not None and not self._filter.has(opened.filter):
            opened.renew_filter()
        return opened

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(Exception):  # it is not used any more
                opened.close()

    def _log(self, why: str, settings: SuppressionSettings) -> None:
        if (now := self._clock()) < self._log_at:
            return
        self._log_at = now + _LOG_SECONDS
        what = "accepted without a look-up" if settings.on_unreadable == "accept" else "answered 451"
        _LOG.error(f"the suppression list cannot be read: recipients of relay hosts are {what}", why=why)


def problem_of(settings: SuppressionSettings) -> str | None:
    """Return why a list cannot be read, or None if it can be. This waits for the disk."""
    from sidecar.journal.database import StoreError, database_faults  # noqa: PLC0415 - see the module
    from sidecar.suppression.opened import OpenedList  # noqa: PLC0415 - see the module

    try:
        with database_faults(settings.database), closing(OpenedList(settings)) as opened:
            opened.database.find("no-one@localhost", 0)
    except StoreError as error:
        return str(error)
    return None
