"""Request bodies, as they arrive: each has a size and a deadline, and all together have a bound on memory.

Owns reading them. Never knows what they ask.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request

from sidecar.daemon.http.answers import Refusal

# A message of report_size_limit's default, in base64; larger ones can be explained with `sidecar explain`.
BODY_LIMIT = 16 * 1024 * 1024
BODY_SECONDS = 10.0
# Bodies that have not arrived completely, all connections together. Above it the one that was silent longest makes room.
BODIES_LIMIT = 4 * BODY_LIMIT


class Bodies:
    """The bodies that are arriving."""

    def __init__(self) -> None:
        # By deadline, in the order of their last pieces.
        self._sizes: dict[asyncio.Timeout, int] = {}

    async def read(self, request: Request) -> bytes:
        """Return the complete body. Raises Refusal."""
        body = bytearray()
        deadline = asyncio.timeout(BODY_SECONDS)
        try:
            async with deadline:
                async for piece in request.stream():
                    if not piece:
                        continue
                    body += piece
                    if len(body) > BODY_LIMIT:
                        raise Refusal(413, f"The body has more than {BODY_LIMIT} bytes: ask with sidecar explain instead.")
                    self._hold(deadline, len(body))
        except TimeoutError as error:
            if deadline not in self._sizes and body:
                raise Refusal(503, "Other questions needed the memory: ask again in a second.", retry_after=1) from error
            raise Refusal(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from error
        except ClientDisconnect as error:
            raise Refusal(400, "The body broke off.") from error
        finally:
            self._sizes.pop(deadline, None)
        return bytes(body)

    def _hold(self, deadline: asyncio.Timeout, size: int) -> None:
        """Count a body with its new size; end the reading of others if there is too much."""
        self._sizes.pop(deadline, None)
        self._sizes[deadline] = size
        while sum(self._sizes.values()) > BODIES_LIMIT:
            silent = next(iter(self._sizes))
            del self._sizes[silent]
            silent.reschedule(asyncio.get_running_loop().time())
