"""A campaign: one fault after the other under load, and then the count.

Owns the figures. Never mends anything.
"""

from collections import defaultdict

from msgspec import Struct

from tests.faults.audit import answered_wrongly, delivered_wrongly, missing, not_quarantined, undelivered
from tests.faults.load import is_deferred, is_refused, is_taken
from tests.faults.scene import Scene, scene
from tests.faults.strikes import Strike, in_some_order


class Struck(Struct, frozen=True, kw_only=True):
    """One fault: the messages put off from its beginning until all was well, and the seconds which that took after its end."""

    name: str
    deferred: int
    healed_after: float


class Report(Struct, frozen=True, kw_only=True):
    """What a campaign found: messages by their answers, and by what must not be, every case of it."""

    struck: tuple[Struck, ...]
    offered: int
    taken: int
    refused: int
    deferred: int
    unanswered: int
    records: int
    wrong: dict[str, list[str]]

    def by_name(self) -> dict[str, list[Struck]]:
        """Give the faults by kind."""
        found: dict[str, list[Struck]] = defaultdict(list)
        for one in self.struck:
            found[one.name].append(one)
        return found


def campaign(number: int, *, megabytes: int, engine: str) -> Report:
    """Strike so often, on a disk of that size, and count."""
    with scene(megabytes=megabytes, engine=engine) as where:
        with where.load:
            where.healed()
            struck = [_strike(where, name, strike) for name, strike in in_some_order(number)]
        return _count(where, struck)


def _strike(where: Scene, name: str, strike: Strike) -> Struck:
    since = len(where.load.entries)
    strike(where)
    healed_after = where.healed()
    # As an operator's program would, in the midst of it all.
    where.books.look()
    return Struck(name=name, deferred=where.load.count(is_deferred, since=since), healed_after=healed_after)


def _count(where: Scene, struck: list[Struck]) -> Report:
    """Stop it, start it once more so that it repairs what the fault left, and count."""
    ledger = where.load.entries
    delivered = where.mta.delivered()
    stops = [where.program.stop()]
    where.start_again()
    stops.append(where.program.stop())
    where.books.look_at_all()
    counts = {
        "reports answered 250 and not in the journal": list(map(str, missing(ledger, where.books.written))),
        "unparsable reports answered 250 and not in the quarantine": not_quarantined(
            ledger, where.books.quarantined, where.disk.path / "quarantine"
        ),
        "lines in the journal that are no records": list(map(str, where.books.unfit)),
        "messages answered 250 against the policy": list(map(str, answered_wrongly(ledger))),
        "messages delivered against the policy": delivered_wrongly(ledger, delivered),
        "messages answered 250, relayed and not delivered": undelivered(ledger, delivered),
        "processes, sockets and unfinished segments left over": where.left_over(),
        "unexpected faults in the logs": where.bugs(),
        "stops that ended with an error": [str(status) for status in stops if status],
    }
    return Report(
        struck=tuple(struck),
        offered=len(ledger),
        taken=where.load.count(is_taken),
        refused=where.load.count(is_refused),
        deferred=where.load.count(is_deferred),
        unanswered=where.load.count(lambda entry: entry.code is None),
        records=len(where.books.written),
        wrong=counts,
    )
