"""`sidecar status`: the state of the running sidecar, its settings and its last reload."""

import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from sidecar.config import state_directory
from sidecar.core.settings.values import CHECKPOINTS
from sidecar.core.text import counted, printable, rfc3339
from sidecar.daemon.process.aside import Aside, HungError
from sidecar.daemon.process.status import FILE_NAME, Status, in_words, is_fine, is_running, is_stale, read_status
from sidecar.journal.read import Checkpoints
from sidecar.journal.read.checkpoints import KnownReader
from sidecar.machine import missing_right
from sidecar.output.help import Command
from sidecar.output.problems import config_file, config_option
from sidecar.output.streams import print_json, print_lines
from sidecar.suppression import READER as SUPPRESSION

# It exists where systemd is the init program (sd_booted(3)).
_SYSTEMD = Path("/run/systemd/system")
_USUAL_UNIT = "sidecar"
# A disk that works needs some ms, also after it has stopped turning a few seconds.
READ_WITHIN: Final = 10.0
# A reader that runs saves its checkpoint with each segment: once an hour by default.
READER_SECONDS: Final = 24 * 3600
# A reader delivers in less than a second.
BEHIND_SECONDS: Final = 60


@click.command(
    "status",
    cls=Command,
    examples=[
        "sidecar status --config /etc/sidecar/sidecar.toml",
        "sidecar status --config /etc/sidecar/sidecar.toml --json | jq .fine",
    ],
    statuses={
        0: "it is running without a problem",
        1: "it is not running, its last reload failed, its disk is too full, its list is unreadable or does not follow the "
        "journal, or its status is old",
    },
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(config: Path | None, *, as_json: bool) -> None:
    """Show if the sidecar is running, and its last reload.

    The command reads the status in the state directory that the settings name.
    """
    directory = state_directory(config_file(config))
    status, running, fine = None, False, False
    readers = list[KnownReader]()
    try:
        status, readers = Aside().do(partial(_read, directory), within=READ_WITHIN)
    except (HungError, OSError, ValueError) as error:
        words = _unreadable(directory, error)
    else:
        running = is_running(status)
        is_behind = any(one.fault for one in readers if one.name == SUPPRESSION)
        fine = running and is_fine(status) and not is_behind
        words = "\n".join(map(printable, (*_in_words(status), *_of_readers(readers, all_of_them=status.degraded))))
    if as_json:
        degraded = status is not None and running and status.degraded
        stale = status is not None and running and is_stale(status)
        facts = {"running": running, "fine": fine, "degraded": degraded, "stale": stale, "readers": readers}
        print_json({**facts, "words": words, "status": status})
    else:
        print_lines(words.split("\n"))
    sys.exit(0 if fine else 1)


def _read(directory: Path) -> tuple[Status, list[KnownReader]]:
    """Return the status, and the readers of the journal. Raise OSError and ValueError."""
    return read_status(directory), Checkpoints(directory / CHECKPOINTS).all_known()


def _of_readers(readers: Sequence[KnownReader], *, all_of_them: bool) -> Iterator[str]:
    """Yield a sentence for each reader that may be gone; of all readers while their segments fill the disk."""
    latest = rfc3339(int(time.time()) - READER_SECONDS)
    for one in readers:
        if one.name == SUPPRESSION and one.oldest:
            why = f": {one.fault}" if one.fault else ""
            yield f"The suppression list differs from that of the other nodes since {rfc3339(one.oldest)}{why}."
        elif one.fault:
            since = f" since {rfc3339(one.oldest)}" if one.oldest else ""
            does = "deliver records" if one.oldest else "read the journal"
            yield f"Reader {one.name} does not {does}{since}: {one.fault}. Records wait in the journal."
        elif 0 < one.oldest < time.time() - BEHIND_SECONDS:
            yield f"Reader {one.name} is behind: its oldest record that is not delivered is of {rfc3339(one.oldest)}."
        if one.kept:
            yield f"Reader {one.name} keeps {counted(one.kept, 'record')} that were rejected: the log has the reasons."
        if all_of_them or one.saved < latest:
            yield f"Segments that a reader has not read are kept: {one}."


def _unreadable(directory: Path, error: HungError | OSError | ValueError) -> str:
    match error:
        case HungError():
            text = f"{directory / FILE_NAME} cannot be read: its disk does not answer within {READ_WITHIN:.0f} seconds."
        case FileNotFoundError():
            text = f"There is no status in {directory}: start the sidecar, or name its settings with --config."
            if _SYSTEMD.is_dir():
                text = f"{text} If it does not start: {_log_of(_USUAL_UNIT)}"
        case OSError():
            text = f"{directory / FILE_NAME} cannot be read: {missing_right(directory / FILE_NAME) or error.strerror}."
        case ValueError():
            text = f"{directory / FILE_NAME} has no valid status: {error}; restart the sidecar."
    return printable(text)


def _log_of(unit: str) -> str:
    return f"`journalctl -u {unit}` shows its log."


def _in_words(status: Status) -> Iterator[str]:
    log = "Look for the reason in its log." if status.unit is None else _log_of(status.unit)
    if status.state == "stopped":
        yield f"The sidecar is not running: it was stopped at {status.since}. {log if status.unit else ''}".rstrip()
        return
    if not is_running(status):
        gone = f"process {status.pid}, {status.state} since {status.since}, ended unexpectedly"
        yield f"The sidecar is not running: {gone}. {log}"
        return
    yield f"The sidecar is running: process {status.pid}, version {status.version}, {status.state} since {status.since}."
    if is_stale(status):
        yield f"The service does not renew its status since {status.renewed}: the disk of the state directory may hang."
    settings = status.settings
    workers = f"{status.serving()} of {status.workers_wanted} workers serve {status.socket}"
    yield f"{workers}; workers that ended unexpectedly since the start: {status.restarts}."
    if status.admin_socket is not None:
        yield f"The HTTP API is at {status.admin_socket}."
    yield f"The settings are {settings.revision}, loaded {settings.loaded}; listener domains: {settings.listener_domains}."
    if status.needs_restart:
        yield f"These settings changed in the files and need a restart: {', '.join(status.needs_restart)}."
    if (listed := status.suppression) is not None:
        then = "accepted without a look-up" if listed.on_unreadable == "accept" else "answered 451"
        unreadable = f"The suppression list cannot be read, so recipients of relay hosts are {then}: {listed.problem}."
        yield "The workers can read the suppression list." if listed.readable else unreadable
    if status.disk is not None:
        yield f"{'Degraded: ' if status.degraded else ''}{in_words(status.disk)}"
    if (reload := status.last_reload) is None:
        return
    if reload.problems:
        yield f"The last reload, at {reload.time}, failed; the previous settings remain in use:"
        yield from (f"  {problem}" for problem in reload.problems)
    else:
        yield f"The last reload, at {reload.time}, succeeded."
