"""Sessions: who has logged in to the console with which token, until when.

Owns the table of sessions, in memory that a process passes to its successor at a reload. Never has the text of a token or a
cookie: only their hashes.
"""

import hashlib
import hmac
import mmap
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from struct import Struct as Packed
from typing import Any, Final

from msgspec import Struct

from sidecar.core.settings.values import AdminToken, Role

IDLE_SECONDS: Final = 3600.0
"""A session without a request for this time has ended."""
LONGEST_SECONDS: Final = 12 * 3600.0
"""Each session ends then: a working day."""

# Hashes of the cookie and of the token, then the times of the login and of the last request.
_SLOT: Final = Packed("<32s32sdd")
_FREE: Final = bytes(32)


class ConsoleSession(Struct, frozen=True, kw_only=True):
    """A login. `csrf` is in each of its forms, and in no other one. `slot` is its place in the table."""

    role: Role
    csrf: str
    slot: int

    @property
    def is_operator(self) -> bool:
        """True if it can change something."""
        return self.role == "operator"


class Sessions:
    """The sessions of `tokens`, in `memory`, which bounds their number: a session ends with its token.

    For some seconds after a reload two processes have the memory. They write whole slots, and a login that the other one
    overwrites at the same moment is asked for its token again.
    """

    def __init__(self, tokens: Sequence[AdminToken], memory: mmap.mmap, clock: Callable[[], float] = time.monotonic) -> None:
        self._roles = {bytes.fromhex(token.digest): token.role for token in tokens}
        self._memory = memory
        self._clock = clock

    def start(self, token: AdminToken) -> str:
        """Begin a session. Return the text of its cookie.

        In a full table the token with the most sessions loses the one that was unused for the longest time. So readers cannot
        end the sessions of operators.
        """
        cookie, now, digest = secrets.token_urlsafe(32), self._clock(), bytes.fromhex(token.digest)
        used = {slot: (one[1], self._used(one, now)) for slot, *one in self._slots()}
        sessions = Counter(one for one, at in used.values() if at)
        free = (slot for slot, (_, at) in used.items() if not at)
        slot = next(free, None)
        if slot is None:
            slot = min(used, key=lambda one: (-sessions[used[one][0]], used[one][1]))
        _SLOT.pack_into(self._memory, slot, _hash(cookie), digest, now, now)
        return cookie

    def find(self, cookie: str) -> ConsoleSession | None:
        """Return the session of a cookie, and count this as its use. None if it has ended."""
        wanted, now = _hash(cookie), self._clock()
        for slot, key, token, began, used in self._slots():
            if hmac.compare_digest(key, wanted) and self._used((key, token, began, used), now):
                _SLOT.pack_into(self._memory, slot, key, token, began, now)
                csrf = hmac.new(cookie.encode("latin-1", "replace"), b"csrf", hashlib.sha256).hexdigest()
                return ConsoleSession(role=self._roles[token], csrf=csrf, slot=slot)
        return None

    def end(self, session: ConsoleSession) -> None:
        """End a session."""
        _SLOT.pack_into(self._memory, session.slot, _FREE, _FREE, 0.0, 0.0)

    def _slots(self) -> Iterator[tuple[int, bytes, bytes, float, float]]:
        for slot in range(0, len(self._memory) - _SLOT.size + 1, _SLOT.size):
            yield slot, *_SLOT.unpack_from(self._memory, slot)

    def _used(self, slot: Sequence[Any], now: float) -> float:
        """Return the time of the last request; 0 if the session has ended."""
        _, token, began, used = slot
        is_over = token not in self._roles or now - used > IDLE_SECONDS or now - began > LONGEST_SECONDS
        return 0.0 if is_over else used


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("latin-1", "replace")).digest()
