"""A rolling upgrade of three servers while records are shipped: deploy/nats/README.md, Upgrade.

With the program of an older nats-server in OLD_NATS_SERVER, the servers begin with it. Without, they are only restarted.
"""

import os
import signal
import subprocess
from pathlib import Path

from tests.fleet.servers import PROGRAM, Server, cluster, needs_nats
from tests.fleet.shipping import count, make_stream, record, repeated, shipping, stored, with_fleet, write
from tests.mta.processes import wait_until

pytestmark = needs_nats

OLD = os.environ.get("OLD_NATS_SERVER", PROGRAM)
SEGMENT = "20261130-120000.000001"
EACH = 500


def upgrade(one: Server) -> None:
    """Move its clients to other servers, end it, and start the new program with the same data."""
    assert one.program
    subprocess.run([one.program, "--signal", f"ldm={one.pid}"], check=True, capture_output=True)
    wait_until(lambda: "Entering lame duck mode" in one.log.read_text(), "it moves its clients")
    one.kill(signal.SIGTERM)
    one.program = PROGRAM
    one.start()


def test_a_rolling_upgrade(tmp_path: Path) -> None:
    """One server after the other is replaced. Nothing waits for the end, and each record is stored once."""
    with cluster(program=OLD, more="lame_duck_duration: 30s\nlame_duck_grace_period: 1s\n") as servers:
        made = with_fleet(tmp_path, *servers)
        make_stream(made, replicas=3)
        written = 0
        with shipping(made):
            for one in (None, *servers):
                if one is not None:
                    upgrade(one)
                    wait_until(one.is_current, "it has caught up")
                write(made, SEGMENT, [record(written + number) for number in range(EACH)])
                written += EACH
                wait_until(lambda written=written: count(made) == written, "all is shipped")  # type: ignore[misc]
        found = stored(made)
        assert (len(found), repeated(found)) == (written, [])
