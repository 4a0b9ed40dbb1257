"""The check of a revision with the settings of this node: a process of its own, with limits.

`python -m sidecar.fleet.policy.check CONFIG FOLDER REVISION` prints one JSON object: the errors, as one line each.
"""

import asyncio
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sidecar.config import Reading
from sidecar.config.policy import policy_in
from sidecar.core.text import counted, printable
from sidecar.fleet.policy.manifest import PolicyError

# A million domains need 30 s, and 1.5 GB.
_SECONDS: Final = 300
_BYTES: Final = 8 << 30
# Verdicts come first.
_NICE: Final = 5
_SHOWN: Final = 3
_OUTPUT_LIMIT: Final = 64 << 10


class CheckResult(Struct, frozen=True, kw_only=True):
    """The number of errors, and the first of them in words."""

    errors: int
    first: tuple[str, ...]


async def check(config: Path, folder: Path, revision: int) -> None:
    """Check a revision in a process of its own. Raise PolicyError with its first errors."""
    arguments = ("-m", __name__, str(config), str(folder), str(revision))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=_OUTPUT_LIMIT
    )
    try:
        async with asyncio.timeout(_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise PolicyError(f"its check took longer than {_SECONDS} seconds") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        result = msgspec.json.decode(output, type=CheckResult)
    except ValueError:
        how = f"ended with status {process.returncode}; look whether it needed more than {_SECONDS} s or 8 GB"
        raise PolicyError(f"the process that checks it {how}") from None
    if result.errors:
        more = f" (and {counted(result.errors - len(result.first), 'more error')})" if result.errors > len(result.first) else ""
        raise PolicyError(f"its settings are not valid on this node: {'; '.join(result.first)}{more}")


def _main(config: str, folder: str, revision: str) -> None:
    _limit()
    loaded = Reading(Path(config), policy=policy_in(Path(folder), int(revision))).loaded
    errors = [one for one in loaded.problems if one.level == "error"]
    first = tuple(printable(f"{one.place}: {one.key}: {one.text}"[:500]) for one in errors[:_SHOWN])
    with suppress(BrokenPipeError):  # the agent has died
        os.write(sys.stdout.fileno(), msgspec.json.encode(CheckResult(errors=len(errors), first=first)))


def _limit() -> None:
    # A sandbox can forbid each of them (systemd.exec(5), SystemCallFilter); the time is limited by the parent in any case.
    with suppress(OSError):
        os.nice(_NICE)
    for limit, value in ((resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_AS, _BYTES), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    _main(*sys.argv[1:])
