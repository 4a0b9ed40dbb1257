"""`make bench`: the sidecar compared with no milter, with milters that do nothing, and with three mail filters.

    python -m tests.bench [--rounds N] [--rows WORD] [--connections N ...] [--rivals NAME ...] [--against CHECKOUT] [--check]

All milters run at the same time. In each round each of them gets one short burst of mail, in an order that changes. The
result is the median of the ratios within a round: a load that lasts longer than a round slows down all of them.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests import ROOT
from tests.bench.rivals import (
    BEST_C,
    DIRECT,
    FILTERS,
    LIBMILTER,
    NO_MILTER,
    OTHER,
    OWN_CONTROL,
    PLAIN_C,
    PROGRAMS,
    PYMILTER,
    Rivals,
    build,
)
from tests.bench.scenarios import REJECTED_RCPT, ROWS, Scenario
from tests.bench.stand import Burst, measure
from tests.bench.tables import Row, markdown, missed

EVERYWHERE = (NO_MILTER, PLAIN_C, BEST_C, PYMILTER, DIRECT, LIBMILTER)
ALL = (*EVERYWHERE, *FILTERS, OWN_CONTROL)


def main() -> None:
    """Measure, print the tables, and keep the raw figures."""
    wanted = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that everything is stopped and removed
    failed: list[str] = []
    if wanted.print:
        rows = _read(wanted.print)
    else:
        rows, failed = _measure(wanted)
        _report(f"The raw figures are in {wanted.keep}; --print {wanted.keep} prints the tables again.")
    print(markdown(rows))  # noqa: T201 - this is a program
    if failed:
        sys.exit("\n".join(("these rows failed:", *failed)))
    if wanted.check and missed(rows):
        sys.exit(f"{missed(rows)} targets are missed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", default="", metavar="WORD", help="only the rows with this word in their name")
    parser.add_argument("--connections", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--rivals", nargs="+", choices=ALL, default=ALL, metavar="NAME", help="only these, and direct")
    parser.add_argument("--messages", type=int, help="in a burst; by default as many as take some 0.4 s")
    parser.add_argument("--workers", type=int, default=2, help="of the sidecar, of pymilter and of rspamd")
    parser.add_argument("--domains", type=int, default=10, help="listener domains of the sidecar")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout of the sidecar is one more rival")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a target is missed")
    parser.add_argument("--keep", type=Path, default=PROGRAMS / "figures.json", metavar="FILE", help="for the raw figures")
    parser.add_argument("--print", type=Path, metavar="FILE", help="measure nothing, print the tables of these raw figures")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(wanted: argparse.Namespace) -> tuple[list[Row], list[str]]:
    rows = {name: scenarios for name, scenarios in ROWS.items() if re.search(rf"\b{re.escape(wanted.rows)}\b", name)}
    chosen = {name: _names(scenarios, wanted) for name, scenarios in rows.items()}
    build()
    if any(name in FILTERS for names in chosen.values() for name in names):
        if not wanted.isolated:
            _isolate()
        threading.Thread(target=_name_server, daemon=True).start()
    found: list[Row] = []
    failed: list[str] = []
    with Rivals(workers=wanted.workers, domains=wanted.domains, other=(wanted.against or ROOT).resolve()) as rivals:
        for name, scenarios in rows.items():
            for connections in wanted.connections:
                began = time.monotonic()
                size = {"connections": connections, "rounds": wanted.rounds, "messages": wanted.messages}
                try:
                    rounds = measure(scenarios, chosen[name], rivals, **size)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # the other rows are measured all the same
                    failed.append(f"{name}, {connections} connections: {error}")
                    _report("\n".join(("failed:", failed[-1], *getattr(error, "__notes__", ()))))
                    continue
                found.append(Row(name, connections, rounds))
                wanted.keep.write_text(json.dumps(found) + "\n")
                seconds, load = time.monotonic() - began, os.getloadavg()[0]
                _report(f"{name}, {connections} connections: {len(rounds)} rounds in {seconds:.0f} s, load average {load:.1f}")
    return found, failed


def _names(scenarios: Sequence[Scenario], wanted: argparse.Namespace) -> list[str]:
    names = [*EVERYWHERE]
    if len(scenarios) == 1 and scenarios[0].relay_host:
        names += FILTERS
    if scenarios == (REJECTED_RCPT,):
        names.append(OWN_CONTROL)
    return [name for name in names if name in wanted.rivals or name == DIRECT] + [OTHER] * bool(wanted.against)


def _isolate() -> None:
    """Run this program again in a network namespace that has only loopback: no query for a name leaves it."""
    PROGRAMS.mkdir(exist_ok=True)
    servers = PROGRAMS / "resolv.conf"
    servers.write_text("nameserver 127.0.0.1\n")
    script = 'ip link set lo up && mount --bind "$0" /etc/resolv.conf && exec "$@"'
    program = [sys.executable, "-m", "tests.bench", *sys.argv[1:], "--isolated"]
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", script, str(servers), *program])  # noqa: S606


def _name_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        while True:
            query, client = server.recvfrom(4096)
            server.sendto(no_such_name(query), client)


def no_such_name(query: bytes) -> bytes:
    """Return the answer NXDOMAIN to a DNS query (RFC 1035 section 4)."""
    end = query.index(0, 12) + 5  # the header has 12 bytes; the name ends with 0, and its type and class follow
    return query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:end]


def _read(path: Path) -> list[Row]:
    return [
        Row(name, connections, [{rival: Burst(*burst) for rival, burst in one.items()} for one in rounds])
        for name, connections, rounds in json.loads(path.read_text())
    ]


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
