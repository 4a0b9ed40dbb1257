"""Sessions: who has logged in to the console with which token, until when; and how often a wrong token is tried.

Owns the table of sessions, in memory that a process passes to its successor at a reload. Never has the text of a token or a
cookie: only their hashes.
"""

import hashlib
import hmac
import mmap
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from struct import Struct as Packed
from typing import Final

from msgspec import Struct

from sidecar.core.settings.values import AdminToken, Role

IDLE_SECONDS: Final = 3600.0
"""A session without a request for this time has ended."""
LONGEST_SECONDS: Final = 12 * 3600.0
"""Each session ends then: a working day."""

# Hashes of the cookie and of the token, then the times of the login and of the last request.
_SLOT: Final = Packed("<32s32sdd")
_FREE: Final = bytes(32)

# Wrong tokens in this time. A token has 160 random bits; the limits are for those that a person has made up.
WINDOW_SECONDS: Final = 60.0
PEER_LIMIT: Final = 10
TOTAL_LIMIT: Final = 60


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
        """Begin a session. Return the text of its cookie. The session that was unused for the longest time makes room."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        slot = min(self._slots(), key=lambda one: self._used(one[1:], now))[0]
        _SLOT.pack_into(self._memory, slot, _hash(cookie), bytes.fromhex(token.digest), now, now)
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

    def _used(self, slot: tuple[bytes, bytes, float, float], now: float) -> float:
        """Return the time of the last request; 0 if the session has ended."""
        _, token, began, used = slot
        is_over = token not in self._roles or now - used > IDLE_SECONDS or now - began > LONGEST_SECONDS
        return 0.0 if is_over else used


class Throttle:
    """Counts wrong tokens by peer and in total, in a window of time. Beyond a limit no token is compared."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_at = 0.0
        self._total = 0
        # At most TOTAL_LIMIT peers.
        self._peers: dict[str, int] = {}

    def wait_for(self, peer: str) -> float:
        """Return the seconds until this peer can try a token; 0 for now."""
        now = self._clock()
        if now >= self._ends_at:
            self._total, self._peers = 0, {}
            return 0.0
        is_full = self._total >= TOTAL_LIMIT or self._peers.get(peer, 0) >= PEER_LIMIT
        return self._ends_at - now if is_full else 0.0

    def count_wrong(self, peer: str) -> None:
        """Count a wrong token."""
        if not self._total:
            self._ends_at = self._clock() + WINDOW_SECONDS
        self._total += 1
        self._peers[peer] = self._peers.get(peer, 0) + 1


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("latin-1", "replace")).digest()
