"""What a fleet costs: disk, traffic, CPU time and memory for each record, and the rate of one shipper.

    python -m tests.bench.fleet [--records N]

The records are those that a sidecar writes for the reports of tests/data, for relayed messages and for rejections, with other
ids, addresses and times: compression depends on them. deploy/docs/fleet-sizing.md rests on these figures.
"""

import argparse
import json
import os
import random
import re
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from sidecar.core.settings.settings import Settings
from sidecar.fleet.shipper import ship
from tests import ROOT
from tests.fleet.servers import Server, cluster, server
from tests.fleet.shipping import count, make_stream, with_fleet
from tests.mta.processes import wait_until
from tests.wire.program import Program

_DOMAINS: Final = '["*"]\nlog_oob = true\nlog_arf = true\n["relay.example"]\nrelay_to = true\n'
_LIMITS: Final = "[limits]\nrecord_bytes_per_byte = 0\nreports_per_second = 100000\nrejection_records_per_second = 100000\n"
_ORDINARY: Final = b"From: a@x.example\r\nSubject: hello\r\n\r\nhello\r\n"
# Of ten records, so many are of relayed messages and of rejections. The others are of reports.
_RELAYED, _REJECTED = 4, 2
_SEGMENT: Final = 10_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_FORK = get_context("fork")


class Cost(Struct, kw_only=True):
    """What so many records took: bytes, seconds of CPU time, bytes of memory, seconds of elapsed time."""

    name: str
    records: int
    journal: int
    stream: int
    store: int
    traffic: int
    written: int
    shipper_cpu: float
    servers_cpu: list[float]
    server_memory: int
    elapsed: float


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    wanted = parser.parse_args()
    samples = _samples()
    console = Console(width=150)
    console.print(f"{sum(map(len, samples.values()))} records as samples; load average {os.getloadavg()[0]:.0f}")
    sizes = ("bytes/record", "stream", "store", "written", "traffic")
    columns = ("servers, compression", *sizes, "shipper, s/1000", "servers, s/1000", "server, MB", "records/s")
    table = Table(*columns)
    for size in (1, 3):
        for compression in ("s2", "none"):
            table.add_row(*_row(measure(samples, wanted.records, size, compression)))
    console.print(table)
    console.print(
        "Bytes of a record in the journal, on the disk of each server, there with what replication keeps, written there,"
    )
    console.print("and sent between servers. Seconds of CPU time.")


def _row(cost: Cost) -> Iterator[str]:
    yield cost.name
    for size in (cost.journal, cost.stream, cost.store, cost.written, cost.traffic):
        yield f"{size / cost.records:.0f}"
    thousands = cost.records / 1000
    yield f"{cost.shipper_cpu / thousands:.3f}"
    yield " + ".join(f"{one / thousands:.3f}" for one in cost.servers_cpu)
    yield f"{cost.server_memory / 1e6:.0f}"
    yield f"{cost.records / cost.elapsed:.0f}"


# --- records


def _samples() -> dict[str, list[dict[str, Any]]]:
    """Return the records of one session for each report, by kind."""
    reports = [
        path.read_bytes() for folder in ("reports", "bounces") for path in sorted((ROOT / "tests/data" / folder).glob("*.eml"))
    ]
    with Program(settings=_LIMITS, domains=_DOMAINS) as program:
        for content in reports:
            _send(program, b"<s@a.example>", content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        for _ in range(len(reports)):
            _send(program, b"<s@relay.example>", _ORDINARY)
        program.stop()
        found = program.records()
    kinds: dict[str, list[dict[str, Any]]] = {"reports": [], "relayed": [], "rejected": []}
    for one in found:
        relayed = one["recipient"] == "s@relay.example"
        kinds["rejected" if one["type"] == "Rejection" else "relayed" if relayed else "reports"].append(one)
    return kinds


def _send(program: Program, recipient: bytes, content: bytes) -> None:
    with program.mta() as mta:
        mta.begin()
        mta.envelope(b"<>", recipient)
        mta.content(content)


def _records(samples: dict[str, list[dict[str, Any]]], number: int) -> Iterator[bytes]:
    """Yield records as a node writes them, with other ids, addresses and times."""
    chance = random.Random(1)  # noqa: S311 - the same records again
    kinds = ["relayed"] * _RELAYED + ["rejected"] * _REJECTED + ["reports"] * (10 - _RELAYED - _REJECTED)
    for at in range(number):
        one = dict(chance.choice(samples[chance.choice(kinds)]))
        one["id"] = f"{chance.getrandbits(128):032x}" if one["id"] else ""
        one["session_id"] = (
            f"{chance.getrandbits(32):08x}-{chance.getrandbits(16):04x}-4{chance.getrandbits(12):03x}-a000-{chance.getrandbits(48):012x}"
        )
        one["timestamp"] = one["created"] = 1_790_000_000 + at // 200
        one["event_time"] = one["created_time"] = (
            f"2026-11-30T{at // 36000 % 24:02}:{at // 600 % 60:02}:{at // 10 % 60:02}.{chance.randrange(10**6):06}Z"
        )
        one["recipient"] = one["queue"] = f"user{chance.getrandbits(32):x}@domain{chance.randrange(50_000)}.example"
        one["peer_address"] = {
            "name": f"mx{chance.randrange(5000)}.example",
            "addr": f"198.51.{chance.randrange(256)}.{chance.randrange(256)}",
        }
        one["meta"] = {**one["meta"], "message_id": one["id"], "queue_id": f"{chance.getrandbits(44):011X}"}
        yield json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _write(made: Settings, samples: dict[str, list[dict[str, Any]]], number: int) -> int:
    """Write a journal of finished segments. Return its bytes."""
    folder = made.journal.directory
    folder.mkdir(parents=True)
    lines = list(_records(samples, number))
    for at in range(0, number, _SEGMENT):
        path = folder / f"20261130-{at // _SEGMENT:06}.000001.jsonl"
        path.write_bytes(b"".join(lines[at : at + _SEGMENT]))
        path.chmod(0o440)
    return sum(map(len, lines))


# --- measuring


def measure(samples: dict[str, list[dict[str, Any]]], number: int, size: int, compression: str) -> Cost:
    """Ship so many records to so many servers."""
    with TemporaryDirectory() as folder, _servers(size) as servers:
        made = with_fleet(Path(folder), *servers)
        make_stream(made, replicas=size, compression=compression)
        journal = _write(made, samples, number)
        before = [_cpu(one.pid) for one in servers]
        written = _written(servers)
        traffic, children = _traffic(servers), resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        end = _FORK.Event()
        process = _FORK.Process(target=ship, args=(made, lambda _: end.is_set()))
        process.start()
        wait_until(lambda: count(made) == number, "all is shipped", seconds=1200)
        elapsed = time.monotonic() - began
        end.set()
        process.join()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(
            name=f"{size}, {compression}",
            records=number,
            journal=journal,
            stream=_size(servers[0], "streams/sidecar_records/msgs"),
            store=_size(servers[0], ""),
            traffic=_traffic(servers) - traffic,
            written=(_written(servers) - written) // size,
            shipper_cpu=after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime,
            servers_cpu=sorted((_cpu(one.pid) - then for one, then in zip(servers, before, strict=True)), reverse=True),
            server_memory=max(_memory(one.pid) for one in servers),
            elapsed=elapsed,
        )


@contextmanager
def _servers(size: int) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield stack.enter_context(cluster(size)) if size > 1 else [stack.enter_context(server())]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _traffic(servers: Sequence[Server]) -> int:
    """Return the bytes that all servers have sent to each other."""
    if len(servers) == 1:
        return 0
    found = [httpx.get(f"http://127.0.0.1:{one.monitor}/routez").json()["routes"] for one in servers]
    return sum(route["out_bytes"] for routes in found for route in routes)


def _written(servers: Sequence[Server]) -> int:
    """Return the bytes that all servers have written to their disks."""
    found = [Path(f"/proc/{one.pid}/io").read_text() for one in servers]
    return sum(int(re.findall(r"(?m)^write_bytes: (\d+)$", text)[0]) for text in found)


def _size(one: Server, below: str) -> int:
    """Return the bytes on the disk of a server, in the folders that end so."""
    folders = [path for path in one.store.rglob("*") if path.is_dir() and str(path).endswith(below)] if below else [one.store]
    return sum(path.stat().st_blocks * 512 for folder in folders for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
