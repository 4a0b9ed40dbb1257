"""The cost of a message by its size: a report of 3 kB up to 10 MB, and a relay host's mail of 3 kB and 25 MB.

    python -m tests.bench.sizes

A report is timed from its bytes to the JSON lines of its records, in one process and without a disk. A relay host's mail goes
through a real Postfix, and the result is the CPU time of the sidecar's workers.
"""

import email.parser
import email.policy
import time
import timeit
import tracemalloc
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from sidecar.config import Reading
from sidecar.core.names import plain_address
from sidecar.core.policy import compile_policy
from sidecar.core.records import encode
from sidecar.core.session import Quota, Rules, Session, World
from sidecar.core.session.events import Connect, Data, EndOfMessage, Helo, Mail, Rcpt, content_events
from tests.bench.scenarios import BOUNCE, BOUNCES, DSN, RELAY, message, text, write_settings
from tests.bench.stand import DISCARD, SINK, send, source
from tests.mta.places import private_directory
from tests.mta.postfix import Postfix
from tests.wire.program import Program

_REPORT = 'multipart/report; report-type=delivery-status; boundary="=_b"'
_SIZES = (0, 100_000, 1_000_000, 9_000_000)
_MESSAGES = 60
# Seconds between messages of any size: 25 MB need 0.2 s, and a worker that slept longer is slower. Without a common pace a long
# message seems to need twice the time of a short one.
_PACE = 0.4
_MEGABYTE = 1 << 20


class Cost(NamedTuple):
    """The cost of a report of `size` bytes: microseconds at the median, and the peak of memory in bytes beside its own."""

    size: int
    microseconds: float
    peak: int


def reports(folder: Path, sizes: tuple[int, ...] = _SIZES, rounds: int = 2000) -> list[Cost]:
    """Measure reports with a returned message of these sizes."""
    settings = Reading(write_settings(folder)).loaded.settings
    assert settings is not None
    rules = Rules(policy=compile_policy(settings), settings=settings)
    world = World(clock=time.time, new_id=lambda: "00000000-0000-4000-8000-000000000000", node_id="")

    def at_its_end(report: bytes) -> Session:
        session = Session(rules=lambda: rules, world=world, quota=Quota(settings.limits))
        *events, _ = content_events(report)
        connect = Connect(peer=plain_address("203.0.113.9"), port=4444, listener="10.1.1.1:25")
        rcpt = Rcpt(address=BOUNCES, mta_spelling=f"<{BOUNCES}>")
        for event in (connect, Helo(name="peer.example.net"), Mail(sender=""), rcpt, Data(), *events):
            session.handle(event)
        return session

    found = []
    for size in sizes:
        report = message("bounce", _REPORT, DSN.replace("--=_b--", text(size) + "--=_b--"))
        times = []
        for _ in range(max(5, rounds * 3000 // len(report))):
            session = at_its_end(report)
            began = time.perf_counter()
            lines = [encode(record) for record in session.handle(EndOfMessage()).records]
            times.append(time.perf_counter() - began)
            assert len(lines) == 2
        session = at_its_end(report)
        tracemalloc.start()
        session.handle(EndOfMessage())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found.append(Cost(len(report), median(times) * 1e6, peak))
    return found


def standard_library() -> float:
    """Return the microseconds in which the standard library's parser reads the smallest of these reports."""
    parse = email.parser.BytesParser(policy=email.policy.compat32).parsebytes
    return min(timeit.repeat(lambda: parse(BOUNCE.message), number=100)) * 1e4


class Share(NamedTuple):
    """The cost of a relay host's message for the workers: microseconds of CPU time, and bytes that they read from the MTA."""

    microseconds: float
    read: float


def relay_host(sizes: tuple[int, ...], messages: int = _MESSAGES, pace: float = _PACE) -> list[Share]:
    """Measure messages of each size, one every `pace` seconds.

    The system counts bytes of read(2) only, which libmilter uses; the direct engine receives from its sockets.
    """
    found = []
    with Program(engine="libmilter") as program, private_directory() as folder:
        program.path.chmod(0o666)
        settings = SINK | {"smtpd_milters": f"unix:{program.path}", "message_size_limit": "0", "mailbox_size_limit": "0"}
        program.directory.chmod(0o755)
        with Postfix(folder / "postfix", settings=settings, services=[DISCARD]) as postfix:
            for size in sizes:
                content = folder / f"{size}.eml"
                content.write_bytes(message("long", "text/plain", text(size)).replace(b"\r\n", b"\n"))
                load = source(RELAY, content, postfix.port, sessions=1)
                send([load], messages=20)
                postfix.delivered()
                cpu, read = _cpu(program), _read(program)
                for _ in range(messages):
                    began = time.monotonic()
                    send([load], messages=1)
                    time.sleep(max(0.0, began + pace - time.monotonic()))
                found.append(Share((_cpu(program) - cpu) / messages * 1e6, (_read(program) - read) / messages))
                postfix.delivered()  # waits until the queue is empty
    return found


def _cpu(program: Program) -> float:
    """Return the seconds of CPU time that the workers have had (clock_getcpuclockid(3): the clock of another process)."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in program.workers())


def _read(program: Program) -> int:
    """Return the bytes that the workers have read (proc(5), io)."""
    lines = [Path(f"/proc/{pid}/io").read_text() for pid in program.workers()]
    return sum(int(text.split()[1]) for text in lines)


def main() -> None:
    """Measure, and print a table."""
    table = Table(title="by size")
    for column in ("", "CPU time", ""):
        table.add_column(column)
    with private_directory() as folder:
        for cost in reports(folder / "settings"):
            details = f"{cost.microseconds * 1000 / cost.size:.2f} us a kB, {cost.peak / _MEGABYTE:.1f} MB at the peak"
            table.add_row(f"a bounce report of {cost.size:,} bytes", f"{cost.microseconds:,.0f} us", details)
    table.add_row("  the standard library's parser, the first", f"{standard_library():.0f} us", "")
    for size, share in zip((3_000, 25_000_000), relay_host((3_000, 25_000_000)), strict=True):
        details = f"{share.read:.0f} bytes read, behind Postfix"
        table.add_row(f"a relay host's message of {size:,} bytes", f"{share.microseconds:.0f} us", details)
    Console().print(table)


if __name__ == "__main__":
    main()
