"""How long another peer waits for the reply to RCPT while hostile senders load the sidecar.

    python -m tests.soak.latency [--seconds N] [--senders N] [--only WORD] [--large]

Owns the bystander and the figures. Never judges them.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import quantiles

import click
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from tests.mta.client import Connection, Peer
from tests.mta.places import private_directory
from tests.mta.postfix import Postfix
from tests.mta.sidecar import Sidecar
from tests.soak.hostile import BOUNCES, DOMAINS, ELSEWHERE, Input, Sent, hostile_senders, inputs, large_reports
from tests.wire.client import Mta

BYSTANDER = Peer(address="198.51.100.77:4444", helo="mail.bystander.example")

MEDIAN_GOAL, P99_GOAL = 0.040, 0.150
"""Seconds. The goal on the direct engine, with 16 senders on two cores and nothing else on them."""

SENDERS = 16

# The bystander is a light load itself, and a session that is slow must not leave it without samples.
_PAUSE = 0.01

# A p99 of fewer says little; where each takes long, four times the seconds must do.
_SAMPLES = 100

# A peer that is made for errors waits for none of them, so that the sidecar has all the load. Without a milter the MTA
# rejects the same recipients by itself.
_POSTFIX = {
    "smtpd_error_sleep_time": "0s",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "relay_domains": "bounce.example, .bounce.example, fbl.example",
    "parent_domain_matches_subdomains": "",
}
# Reports of 9 MB exceed the burst of records in no time.
_LIMITS = "[limits]\nrecord_bytes_per_byte = 0\nreports_per_second = 100000\nquarantine_size = 1_000_000_000\n"
_STEPS = (
    ("198.51.100.77", BOUNCES, "rcpt", "c"),
    ("198.51.100.77", ELSEWHERE, "rcpt", "y"),
    ("127.0.0.1", ELSEWHERE, "data", "a"),
)
_ALL = {"relay_domains": "static:ALL"}


class Waits(Struct, frozen=True, kw_only=True):
    """The bystander's waits in seconds, in order of size; what was sent meanwhile; the load average at the end."""

    name: str
    seconds: tuple[float, ...]
    unanswered: int
    sent: Sent
    elapsed: float
    load: float

    def at(self, percent: int) -> float:
        """Return a percentile of the waits."""
        return self.seconds[0] if len(self.seconds) == 1 else quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


@contextmanager
def stand(*, milter: bool = True, engine: str = "direct") -> Iterator[tuple[int, str]]:
    """Run a Postfix, with a sidecar or without a milter; yield its port and the sidecar's socket path."""
    with private_directory() as folder, ExitStack() as stack:
        sidecar = Sidecar(folder / "sidecar", domains=DOMAINS, settings="recipient_limit = 2000", engine=engine)
        socket = stack.enter_context(sidecar).socket if milter else None
        settings = _POSTFIX | (_ALL if milter else {})
        postfix = stack.enter_context(Postfix(folder / "postfix", milter=socket, settings=settings))
        yield postfix.port, (socket or "").removeprefix("unix:")


@contextmanager
def stand_without_mta(*, engine: str = "direct") -> Iterator[tuple[int, str]]:
    """Run a sidecar alone: as `stand`, with port 0."""
    with (
        private_directory() as folder,
        Sidecar(folder / "sidecar", domains=DOMAINS, settings=_LIMITS, engine=engine) as sidecar,
    ):
        yield 0, sidecar.socket.removeprefix("unix:")


def measure(what: Input | None, where: tuple[int, str], *, senders: int, seconds: float) -> Waits:
    """Let the bystander send RCPT beside hostile senders of `what`, or alone, for some seconds. `where` is a stand.

    Without an MTA the bystander is one itself, and takes turns: a recipient that is accepted, one that is rejected, and a
    message of a relay host.

    It continues for up to four times the seconds while there are few samples.
    """
    name = "no hostile senders" if what is None else what.name
    with _load(what, senders, *where) as sent:
        before, began = sent(), time.monotonic()
        waits: list[float] = []
        unanswered = 0
        while _goes_on(time.monotonic() - began, seconds, len(waits)):
            answered, wait = _one_session(where[0]) if where[0] else _one_step(where[1], len(waits))
            waits.append(wait)
            unanswered += not answered
            time.sleep(_PAUSE)
        after, elapsed = sent(), time.monotonic() - began
    total = Sent(messages=after.messages - before.messages, size=after.size - before.size)
    return Waits(
        name=name, seconds=tuple(sorted(waits)), unanswered=unanswered, sent=total, elapsed=elapsed, load=os.getloadavg()[0]
    )


@contextmanager
def _load(what: Input | None, senders: int, port: int, socket: str) -> Iterator[Callable[[], Sent]]:
    if what is None:
        yield lambda: Sent(messages=0, size=0)
        return
    with hostile_senders(what, senders, port=port, milter=socket) as sent:
        yield sent


def _one_session(port: int) -> tuple[bool, float]:
    with Connection(port, BYSTANDER) as connection:
        connection.say("MAIL FROM:<>")
        began = time.perf_counter()
        code = connection.say(f"RCPT TO:<{BOUNCES}>").code
        return code == 250, time.perf_counter() - began


def _one_step(socket: str, number: int) -> tuple[bool, float]:
    peer, recipient, step, code = _STEPS[number % len(_STEPS)]
    with Mta(socket) as mta:
        mta.begin(peer=peer)
        mta.mail(b"<a@peer.example>")
        began = time.perf_counter()
        answer = mta.rcpt(b"<%s>" % recipient.encode())
        if step == "data":
            answer = mta.data()
        return answer.code == code, time.perf_counter() - began


def _goes_on(elapsed: float, seconds: float, samples: int) -> bool:
    return elapsed < seconds or not samples or (samples < _SAMPLES and elapsed < seconds * 4)


def table(title: str) -> Table:
    """Return an empty table of waits."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE)
    made.add_column("hostile input")
    for column in ("sessions", "25 %", "median", "75 %", "p99", "longest", "hostile messages/s", "MB/s", "load average"):
        made.add_column(column, justify="right")
    return made


def row(waits: Waits) -> list[str]:
    """Return a row of the table, waits in ms."""
    times = [f"{waits.at(percent) * 1000:.1f}" for percent in (25, 50, 75, 99)]
    rates = [f"{waits.sent.messages / waits.elapsed:.1f}", f"{waits.sent.size / waits.elapsed / 1e6:.1f}"]
    name = f"{waits.name} ({waits.unanswered} not accepted)" if waits.unanswered else waits.name
    return [name, str(len(waits.seconds)), *times, f"{waits.seconds[-1] * 1000:.1f}", *rates, f"{waits.load:.1f}"]


def chosen(word: str) -> list[Input]:
    """Return the inputs with this word in their name."""
    return [one for one in inputs() if word in one.name]


@click.command()
@click.option("--seconds", default=15.0, show_default=True, help="For each input.")
@click.option("--senders", default=SENDERS, show_default=True, help="How many hostile senders.")
@click.option("--only", default="", metavar="WORD", help="Only the inputs with this word in their name.")
@click.option("--engine", default="direct", show_default=True, help="The engine of the sidecar.")
@click.option("--large", is_flag=True, help="Measure beside reports of 9 MB, without an MTA.")
def main(seconds: float, senders: int, only: str, engine: str, *, large: bool) -> None:
    """Measure the waits for a reply to RCPT behind Postfix, with the sidecar and without a milter."""
    console = Console(highlight=False, width=150)
    if large:
        shown = table(f"The sidecar without an MTA, engine {engine}, {senders} senders, {os.cpu_count()} cores; replies in ms")
        for what in (None, *large_reports()):
            with stand_without_mta(engine=engine) as where:
                shown.add_row(*row(measure(what, where, senders=senders, seconds=seconds)))
        console.print(shown)
        return
    for title, milter in ((f"Postfix and the sidecar, engine {engine}", True), ("Postfix without a milter", False)):
        shown = table(f"{title}, {senders} hostile senders, {os.cpu_count()} cores; reply to RCPT in ms")
        for what in (None, *(one for one in chosen(only) if milter or not one.wire)):
            with stand(milter=milter, engine=engine) as where:
                cells = row(measure(what, where, senders=senders, seconds=seconds))
            shown.add_row(*cells)
            click.echo("  ".join(cells), err=True)
        console.print(shown)


if __name__ == "__main__":
    main()
