"""The cost of the index of the journal, with a million records: CPU time and bytes of a record, and the time of each query.

    python -m tests.bench.index [--records N] [--folder FOLDER]

The records are made up: six of ten are rejections. Some 20,000 peers and 3,000 recipient domains share them unevenly.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.core.settings.settings import Settings
from sidecar.journal.index import Dimension, Index, Search, open_index
from sidecar.journal.index.follower import IndexFollower
from sidecar.journal.index.keeping import locked
from tests.journal.index.records import BEGIN, indexed, record, write_segment

WEEK = 7 * 86400
SEGMENTS = 20
ROUNDS = 5


def traffic(number: int, *, seed: int = 5, begin: float = BEGIN) -> Iterator[dict[str, Any]]:
    """Yield the records of a week from `begin` on, in the order of time."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    peers = [f"{chance.choice((91, 45, 185))}.{chance.randrange(256)}.{chance.randrange(256)}.7" for _ in range(18_000)]
    peers += [f"2001:db8:{one:x}::{chance.randrange(65536):x}" for one in range(2_000)]

    def digits(count: int) -> str:
        return f"{chance.getrandbits(4 * count):0{count}x}"

    for one in range(number):
        kind = chance.choices(("Rejection", "Reception", "OOB", "Feedback"), (60, 25, 10, 5))[0]
        domain = int(chance.paretovariate(0.3)) % 3000
        peer = peers[min(int(chance.paretovariate(0.4) * 20), len(peers) - 1)]
        session = digits(32)
        made = record(
            kind,
            at=begin - BEGIN + one * WEEK / number,
            sender=f"user{chance.randrange(100_000)}@send{chance.randrange(2000)}.test",
            recipient=f"info{chance.randrange(1_000_000)}@customer{domain}.example",
            peer_address={"name": f"mx{chance.randrange(50)}.host{chance.randrange(500)}.test", "addr": peer},
            session_id=f"{session[:8]}-{session[8:12]}-{session[12:16]}-{session[16:20]}-{session[20:]}",
            meta_why=f'{peer} is no relay host (listener_domains.toml:{domain} "customer{domain}.example".relay_to)',
            nodeid="5f1c2a6e-1b1f-4d3f-9b6e-0123456789ab",
        )
        if kind != "Rejection":
            made["id"] = digits(32)
            made["meta"] |= {"message_id": digits(32), "queue_id": digits(10).upper(), "disposition": "relayed"}
        if kind == "OOB":
            made["bounce_classification"] = chance.choice(("InvalidRecipient", "QuotaIssues", "SpamBlock"))
            made["response"]["content"] = f"<{made['recipient']}>: Recipient address rejected: User unknown in mailbox table"
        if kind == "Feedback":
            made["feedback_report"] = {"feedback_type": "abuse", "original_rcpto_to": [made["sender"]]}
        yield made


def write_journal(made: Settings, records: Iterator[dict[str, Any]], number: int) -> int:
    """Write so many records into segments. Return their bytes without line ends."""
    written = 0
    for segment in range(SEGMENTS):
        part = [json.dumps(next(records), separators=(",", ":")).encode() for _ in range(number // SEGMENTS)]
        written += sum(map(len, part))
        write_segment(made, segment, part)
    return written


def questions(index: Index) -> dict[str, Callable[[], object]]:
    """Return what pages ask, by name; each search for one record is for one from the middle."""
    since, until = BEGIN, BEGIN + WEEK
    (some,) = index.search(Search(types=("Reception",), until=since + WEEK / 2), limit=1).rows
    searches = {
        "the newest": Search(),
        "queue id": Search(queue_id=some.queue_id),
        "message id": Search(message_id=some.message_id),
        "address": Search(address=some.sender),
        "domain": Search(domain=some.recipients[0].partition("@")[2]),
        "peer": Search(peer_network=some.peer),
        "network /20": Search(peer_network="91.16.0.0/20"),
        "text": Search(text="user unknown mailbox"),
        "type and disposition": Search(types=("OOB",), disposition="relayed"),
        "conditions that exclude each other": Search(types=("OOB",), disposition="rejected_at_rcpt", domain="example.test"),
        "an hour": Search(since=since + 3600, until=since + 7200, types=("Rejection",)),
        "nothing": Search(text="notaword"),
    }
    asked: dict[str, Callable[[], object]] = {}
    for name, wanted in searches.items():
        asked[name] = partial(index.search, wanted, limit=50)
    dimensions: tuple[Dimension, ...] = ("reason", "peer", "domain", "reporter", "bounce_class")
    for dimension in dimensions:
        asked[f"top {dimension} of a week"] = partial(index.top, dimension, since=since, until=until, limit=10)
    asked["series of a week"] = lambda: index.totals(since=since, until=until, step=3600)
    asked["session"] = lambda: index.session(some.session_id)
    asked["record"] = lambda: index.record(some.key)
    return asked


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        made, number = indexed(Path(folder)), arguments.records
        written = write_journal(made, traffic(number), number)
        with locked(made), IndexFollower(made, clock=lambda: BEGIN + WEEK) as follower:
            began, cpu = time.monotonic(), time.process_time()
            follower.build()
            cpu, elapsed = time.process_time() - cpu, time.monotonic() - began
        _show(f"{number:,} records of {written / number:.0f} bytes")
        _show(f"{1e6 * cpu / number:.1f} us of CPU time each, {elapsed:.0f} s in all")
        _show(f"index: {made.index_file.stat().st_size / number:.0f} bytes a record")
        with closing(open_index(made)) as index:
            for name, ask in questions(index).items():
                times = []
                for _ in range(ROUNDS):
                    began = time.process_time()
                    ask()
                    times.append(time.process_time() - began)
                _show(f"{name:36} {1e3 * min(times):6.1f} ms, the first time {1e3 * times[0]:6.1f} ms")


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
