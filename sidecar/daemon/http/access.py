"""Roles: which requests need a token, and of which role.

Owns the tokens' comparison, and what happens to a wrong one. The mode of a UNIX socket is a reader's right; a port has no such
right, because every local user can connect to it. Never knows the text of a token before a request has it.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from sidecar import log
from sidecar.core.settings.values import AdminToken, Role
from sidecar.core.text import counted
from sidecar.machine import name_of_user

SUPPRESSION: Final = "/v1/suppression"
CHECK: Final = f"{SUPPRESSION}/check"
# Health is no secret, and the programs that ask for it often cannot send a token.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_READING: Final = frozenset({"GET", "HEAD"})
# A token has 160 random bits: this is for the log and for the CPU, not for the tokens.
WRONG_SECONDS: float = 1.0
_LOG_SECONDS: Final = 60.0
_HOW: Final = 'tokens = { reader = "FILE", operator = "FILE" } below [admin], and make the files with `sidecar keys make FILE`'

_LOG = log.get("admin")


class Access:
    """What the tokens of the settings permit. With `is_unix` the server listens on a UNIX socket."""

    def __init__(self, tokens: Sequence[AdminToken], *, is_unix: bool) -> None:
        self.tokens = tokens
        self._is_unix = is_unix
        self._wrong = 0
        self._log_at = 0.0

    async def check(self, scope: Scope) -> HTTPException | None:
        """Return the error for a request that needs another token. Otherwise note the role in its state."""
        path, method = scope["path"], scope["method"]
        if path in _OPEN:
            return None
        given = Headers(scope=scope).get("authorization")
        kind, _, text = (given or "").partition(" ")
        found = self.find(text.strip()) if kind.lower() == "bearer" else None
        role = None if found is None else found.role
        if given is not None and role is None and self.tokens:
            await self.delay_wrong()
            return _unauthorized("The token is not one of admin.tokens: send Authorization: Bearer TOKEN.")
        scope.setdefault("state", {})["role"] = role
        # Not only with a "/" behind it: the router also takes a path with a line end for this one.
        if not path.startswith(SUPPRESSION):
            return None if self._is_unix or not self.tokens or role is not None else _unauthorized(_missing("reader"))
        return self._reading(role) if method in _READING or path == CHECK else self._changing(role)

    def find(self, text: str) -> AdminToken | None:
        """Return the token with a text."""
        digest = hashlib.sha256(text.encode("latin-1", "replace")).hexdigest()
        # All are compared, so that the time does not depend on which one it is.
        found = [one for one in self.tokens if hmac.compare_digest(one.digest, digest)]
        return found[0] if found else None

    async def delay_wrong(self) -> None:
        """Count a wrong token, and delay its answer. Nothing else waits."""
        self._wrong += 1
        if time.monotonic() >= self._log_at:
            _LOG.warning(f"{counted(self._wrong, 'request')} over HTTP had a wrong token")
            self._wrong, self._log_at = 0, time.monotonic() + _LOG_SECONDS
        await asyncio.sleep(WRONG_SECONDS)

    def _reading(self, role: Role | None) -> HTTPException | None:
        if self._is_unix or role is not None:
            return None
        if not self.tokens:
            return HTTPException(403, f"The suppression list has personal data. A port needs tokens for it: write {_HOW}.")
        return _unauthorized(_missing("reader"))

    def _changing(self, role: Role | None) -> HTTPException | None:
        if role == "operator":
            return None
        if not any(one.role == "operator" for one in self.tokens):
            return HTTPException(403, f"Changes need the token of an operator: write {_HOW}.")
        if role is None:
            return _unauthorized(_missing("operator"))
        return HTTPException(403, "The reader's token cannot change anything: send the operator's.")


def _missing(role: Role) -> str:
    return f"This path needs the token of the {role}: send Authorization: Bearer TOKEN."


def _unauthorized(sentence: str) -> HTTPException:
    return HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"})


def caller(scope: Scope) -> str:
    """Return who asks, for the records of changes: the role, and the user of a connection to a UNIX socket. Can read files."""
    state = scope["state"]
    uid, place = state.get("uid"), state.get("place", "over HTTP")
    return f"{state['role']} {place}{'' if uid is None else f', user {name_of_user(uid)}'}"
