"""Request bodies while they arrive: a limit on the size and the time of each, and on the memory of all."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from sidecar.core.text import in_units

# A message of report_size_limit's default, in base64. `sidecar explain` reads larger ones.
BODY_LIMIT = 16 * 1024 * 1024
BODY_SECONDS = 10.0
# All incomplete bodies together. Above it, the one that was silent for the longest time is given up.
BODIES_LIMIT = 4 * BODY_LIMIT


class Bodies:
    """The incomplete bodies of all connections."""

    def __init__(self) -> None:
        # By deadline, in the order of their last pieces.
        self._sizes: dict[asyncio.Timeout, int] = {}

    async def read(self, request: Request, limit: int | None = None) -> bytes:
        """Return the complete body, of BODY_LIMIT bytes at most if there is no other limit. Raise HTTPException."""
        limit = limit or BODY_LIMIT
        body = bytearray()
        deadline = asyncio.timeout(BODY_SECONDS)
        try:
            async with deadline:
                async for piece in request.stream():
                    if piece:
                        body += piece
                        if len(body) > limit:
                            raise HTTPException(413, f"The body has more than {in_units(limit)}.")
                        self._count(deadline, len(body))
        except TimeoutError as error:
            if deadline not in self._sizes and body:
                sentence = "Other questions needed the memory: ask again in a second."
                raise HTTPException(503, sentence, {"Retry-After": "1"}) from error
            raise HTTPException(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "The body is incomplete.") from error
        finally:
            self._sizes.pop(deadline, None)
        return bytes(body)

    def _count(self, deadline: asyncio.Timeout, size: int) -> None:
        self._sizes.pop(deadline, None)
        self._sizes[deadline] = size
        while sum(self._sizes.values()) > BODIES_LIMIT:
            silent = next(iter(self._sizes))
            del self._sizes[silent]
            if not silent.expired():  # its time can be over in this turn of the loop
                silent.reschedule(asyncio.get_running_loop().time())
