"""Settings with a list, and journals, for the tests of the suppression list."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sidecar.core.records.reading import decode
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import JournalSettings
from sidecar.journal.read import read
from sidecar.suppression.consumer import Consumer
from sidecar.suppression.listing import Listed
from sidecar.suppression.locking import locked
from sidecar.suppression.opening import open_reader
from sidecar.suppression.reading import MemoryList, Reader
from sidecar.suppression.rules import ListEntry
from tests.building import settings
from tests.suppression.records import BEGIN, DAY

NOW = BEGIN + 20 * DAY


def with_list(folder: Path, **more: Any) -> Settings:
    """Return settings with a suppression list, and everything in a folder."""
    listed = SuppressionSettings(database=folder / "list.db", **more)
    journal = JournalSettings(directory=folder / "journal")
    return replace(settings(), state_directory=folder, journal=journal, suppression=listed)


def list_of(made: Settings) -> SuppressionSettings:
    assert made.suppression is not None
    return made.suppression


def write_segment(made: Settings, number: int, records: Iterable[dict[str, Any]], *, finished: bool = True) -> Path:
    """Write a segment of the journal."""
    path = made.journal.directory / f"20260901-1200{number:02}.000000.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    path.chmod(0o440 if finished else 0o640)
    return path


def consume(made: Settings, *, now: int = NOW, then: Callable[[Consumer], object] = lambda _: None) -> None:
    """Read the journal, as the process of the list does."""
    with locked(list_of(made)), Consumer(made, clock=lambda: now) as consumer:
        consumer.read_new()
        then(consumer)


def sweep(made: Settings, now: int) -> None:
    """Delete what has ended, as a process that runs for more than a day."""
    for hours in (30, 10, 0):
        consume(made, now=now - hours * 3600, then=Consumer._tidy)


def stored(made: Settings, now: int = NOW) -> dict[str, ListEntry]:
    """Return the list in the database."""
    with open_reader(list_of(made)) as store:
        return {one.address: _entry(one) for one in store.entries(now)}


def computed(made: Settings, now: int = NOW) -> dict[str, ListEntry]:
    """Return the list that the journal says, without a database."""
    memory = MemoryList(Reader(list_of(made).rule, trust=list_of(made).trust))
    for line in read(made.journal.directory):
        memory.add(decode(line.text))  # type: ignore[union-attr] # these journals have whole lines only
    return memory.entries(now)


def in_child(work: Callable[[], object]) -> int:
    """Do something in a child process. Return its exit status, or the negative number of a signal."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _entry(one: Listed) -> ListEntry:
    fields = {name: getattr(one, name) for name in ListEntry.__struct_fields__}
    return ListEntry(**fields)
