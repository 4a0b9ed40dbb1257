"""Kills of the list's process at random moments, and files as a power cut can leave them: the list is the journal's again.

Owns the faults and the comparison. The journal stays whole: it is on the disk before any report is answered.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.journal.database import DamagedError
from sidecar.suppression import segments
from sidecar.suppression.building import Builder
from sidecar.suppression.consumer import Consumer
from sidecar.suppression.filter import AddressFilter
from sidecar.suppression.locking import locked
from sidecar.suppression.lookup import Lookup, problem_of
from tests.suppression.journals import NOW, computed, in_child, list_of, stored, with_list, write_segment
from tests.suppression.records import change, feedback, oob

WORDS = ("abuse", "InvalidRecipient", "QuotaIssues", "QuotaIssues", "InactiveMailbox", "SpamBlock")
_PAGE = 4096
# Some records of a segment are read in one transaction, so that a kill is within one, or between two.
_BATCH = 20
_MOST_SECONDS = 0.08
_MOST_REBUILD_SECONDS = 0.3
# The journal does not have its report any more, and a database that was torn can have lost it, too.
_ONLY_LISTED = "old@example.net"


class Found(Struct, kw_only=True):
    """What was done, and each list that is not the one of the journal."""

    kills: int = 0
    torn: int = 0
    renewed: int = 0
    wrong: list[str] = []


def attack(folder: Path, kills: int, torn: int, *, seed: int, seconds: float = 600.0) -> Found:
    """Kill the process so many times, and tear copies of its files so many times after each."""
    chance, found, shared = random.Random(seed), Found(), AddressFilter()  # noqa: S311 - repeatable
    made, end = with_list(folder / "list"), time.monotonic() + seconds
    gone = write_segment(made, 99, [feedback(_ONLY_LISTED)])
    check(made, shared, f"seed {seed}, at the beginning", found)
    gone.unlink()
    for number in range(kills):
        if time.monotonic() > end:
            break
        write_segment(made, number // 3, some_records(chance, 40), finished=number % 3 == 2)
        work, most = chance.choice([(follow, _MOST_SECONDS), (rebuild, _MOST_REBUILD_SECONDS)])
        found.kills += killed(partial(work, made, shared), chance.uniform(0.0, most))
        if _ONLY_LISTED not in stored(made):
            found.wrong.append(f"seed {seed}, kill {number} of {work.__name__}: an entry without records is lost")
        for path in folder.glob("list/list.db.old-*"):
            path.unlink()
        if lost := filtered_out(made, shared):
            found.wrong.append(f"seed {seed}, kill {number}: the filter denies {lost[0]}")
        for case in range(torn):
            copy = replace(made, suppression=replace(list_of(made), database=folder / "torn/list.db"))
            how = tear(list_of(made).database, list_of(copy).database, chance)
            found.torn += 1
            check(copy, AddressFilter(), f"seed {seed}, kill {number}, copy {case}: {how}", found)
            found.renewed += bool(list(list_of(copy).database.parent.glob("list.db.damaged-*")))
            shutil.rmtree(folder / "torn")
    check(made, shared, f"seed {seed}, at the end", found)
    return found


def some_records(chance: random.Random, number: int) -> list[dict[str, object]]:
    """Return reports and changes for few addresses, so that most have several events."""
    made = []
    for index in range(number):
        address, day, word = f"u{chance.randrange(200)}@example.net", chance.randrange(60) / 4, chance.choice(WORDS)
        if index % 11 == 0:
            reason = "by hand " * chance.choice([1, 20])
            made.append(change(address, chance.choice(["add", "remove"]), day=day, reason=reason, expires=0))
        elif word == "abuse":
            made.append(feedback(address, day=day))
        else:
            made.append(oob(address, word, day=day))
    return made


def killed(work: Callable[[], object], after: float) -> bool:
    """Do work in a process, and kill it so many seconds after it has begun. Return False if it ended by itself."""

    def child() -> None:
        vars(segments)["_BATCH"] = _BATCH
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, after + 1e-6)
        work()

    return in_child(child) == -signal.SIGALRM


def follow(made: Settings, shared: AddressFilter) -> None:
    """Follow the journal, as the process of the list."""
    with locked(list_of(made)), Consumer(made, shared=shared, clock=lambda: NOW) as consumer:
        # The log is moved into the database often, so that both files have something to lose.
        consumer.database._database.execute("PRAGMA wal_autocheckpoint = 10")
        consumer.run()


def rebuild(made: Settings, _: AddressFilter) -> None:
    """Make new lists, one after the other, as the command."""
    with locked(list_of(made)):
        while True:
            Builder(made, clock=lambda: NOW).build("old")


def filtered_out(made: Settings, shared: AddressFilter) -> list[str]:
    """Return the addresses of the list that the filter denies."""
    lookup = Lookup(shared)
    if problem_of(list_of(made)) is not None:
        return []  # it was killed before it had a database
    lookup.find(list_of(made), "no-one@example.net", NOW)
    return [address for address in stored(made) if not lookup.may_have(list_of(made), address)]


def check(made: Settings, shared: AddressFilter, what: str, found: Found) -> None:
    """Read the journal, and note a list that is not the journal's, in the database or in the filter."""

    def read() -> None:
        # As `follow`: a second damage would be the disk's fault.
        damaged = ""
        for _ in range(2):
            try:
                with locked(list_of(made)), Consumer(made, shared=shared, clock=lambda: NOW, damaged=damaged) as consumer:
                    consumer.read_new()
                    while consumer.step_filter():
                        pass
                    return
            except DamagedError as error:
                damaged = str(error)
        raise AssertionError(damaged)

    if in_child(partial(_quietly, read)) != 0:
        found.wrong.append(f"{what}: the process failed")
    elif {**stored(made), _ONLY_LISTED: None} != {**(expected := computed(made)), _ONLY_LISTED: None}:
        found.wrong.append(f"{what}: {len(stored(made))} entries instead of {len(expected)}, or others")
    elif lost := filtered_out(made, shared):
        found.wrong.append(f"{what}: the filter denies {lost[0]}")


def _quietly(read: Callable[[], None]) -> None:
    """Write the log of a child nowhere: each damaged database has its lines."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - no path
        os.dup2(nowhere.fileno(), 2)
    read()


def tear(database: Path, copy: Path, chance: random.Random) -> str:
    """Copy the database with its log, torn at random. Return what was done."""
    copy.parent.mkdir()
    done = []
    for ending in ("", "-wal"):
        path = Path(f"{database}{ending}")
        content = bytearray(path.read_bytes() if path.exists() else b"")
        how = chance.choice(["whole", "truncated", "zeroed", "zeroed at its end", "missing"] if ending else TEARS)
        size = len(content)
        match how:
            case "truncated":
                del content[chance.randrange(size + 1) :]
            case "truncated to a page":
                del content[chance.randrange(size // _PAGE + 1) * _PAGE :]
            case "zeroed":
                for _ in range(chance.randrange(1, 4)):
                    at = chance.randrange(size // _PAGE + 1) * _PAGE
                    content[at : at + _PAGE] = bytes(len(content[at : at + _PAGE]))
            case "zeroed at its end":
                at = chance.randrange(size + 1)
                content[at:] = bytes(size - at)
            case _:
                pass
        if how != "missing":
            Path(f"{copy}{ending}").write_bytes(content)
        done.append(f"{'log' if ending else 'database'} {how}")
    return ", ".join(done)


TEARS = ("whole", "whole", "truncated", "truncated to a page", "zeroed", "zeroed", "zeroed at its end", "missing")
