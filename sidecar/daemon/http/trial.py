"""A process that holds the text of listener domains against the settings in use, and ends.

Owns its limits: a text and a million records can take long, and nothing else waits for it. It saves nothing.
"""

import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from sidecar.config.diff.trial import TextTrial, try_domains
from sidecar.core.records import Logged, decode
from sidecar.core.settings.domain_table import DomainTable, table_of
from sidecar.core.settings.settings import Settings
from sidecar.journal.read import Line, read
from sidecar.journal.read.logs import find

SECONDS: Final = 20.0
"""A trial ends then."""
# Of these, the records have so many: the newest segments of some hundred thousand records.
_RECORD_SECONDS: Final = 8.0
_RECORD_BYTES: Final = 128 << 20
# A text of 4 MiB against a hundred thousand domains needs half of it.
_MEMORY: Final = 2 << 30


class TrialError(Exception):
    """A trial has no result; the text is a plain sentence, without a full stop."""


_Order = tuple[Settings, int, str, str]
"""What the process gets: the settings without their domains, the descriptor of the table of these, the text and its file."""


def run_trial(settings: Settings, text: str, file: str) -> TextTrial:
    """Return what a text would change. Raise TrialError."""
    table = table_of(settings.domains)
    order: _Order = replace(settings, domains=()), table.descriptor, text, file
    # The program can be installed where Python does not look by itself.
    start = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    command = [sys.executable, "-c", start]
    try:
        done = subprocess.run(  # noqa: S603 - this very program
            command, input=pickle.dumps(order), capture_output=True, timeout=SECONDS, pass_fds=[table.descriptor], check=False
        )
    except subprocess.TimeoutExpired:
        raise TrialError(f"it took more than {SECONDS:.0f} seconds; compare the files with `sidecar diff`") from None
    except OSError as error:
        raise TrialError(f"no process can be started for it: {error.strerror}") from error
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise TrialError(f"its process ended with status {done.returncode}: {last or 'it was killed'}")
    return msgspec.json.decode(done.stdout, type=TextTrial)


def _recorded(settings: Settings, until: float) -> Iterator[Logged | None]:
    """Yield the records of the newest segments, each segment from its beginning."""
    paths, size = [], 0
    found = sorted((one for folder in settings.journal.directories for one in find(folder)), key=lambda one: one.began)
    for one in reversed(found):
        with suppress(OSError):
            size += one.path.stat().st_size
            paths.append(one.path)
        if size > _RECORD_BYTES:
            break
    for path in reversed(paths):
        for line in read(path):
            if time.monotonic() > until:
                return
            record = None
            with suppress(ValueError):
                record = decode(line.text) if isinstance(line, Line) else None
            yield record


def main() -> None:
    """Read an order from standard input, and write the trial to standard output."""
    # Its parent can be killed before it.
    signal.alarm(int(SECONDS) + 5)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    order: _Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by this program, over a pipe
    settings, descriptor, text, file = order
    settings = replace(settings, domains=DomainTable(descriptor))
    records = _recorded(settings, time.monotonic() + _RECORD_SECONDS)
    sys.stdout.buffer.write(msgspec.json.encode(try_domains(settings, text, file, records)))
