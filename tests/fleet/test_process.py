"""`sidecar run` with a fleet: records of real sessions reach the stream, and the process is replaced, reloaded and removed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests import ROOT
from tests.daemon.http.test_running import samples
from tests.daemon.process.test_status import ask, config
from tests.fleet.servers import needs_nats, nkey, server, users
from tests.fleet.shipping import make_stream, repeated, stored, with_fleet
from tests.fleet.test_webhooks import KEY, Endpoint, serving
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD
from tests.wire.program import Program
from tests.wire.test_program import OOB

pytestmark = needs_nats

UNIT = ROOT / "systemd" / "sidecar.service"
SANDBOX = ROOT / "tests" / "systemd" / "sandbox.py"


def bounce(program: Program) -> None:
    with program.mta() as mta:
        mta.begin()
        assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
        assert mta.content(OOB) == (DISCARD, [])


def status(program: Program) -> str:
    return ask(*config(program))[1]


def shipper(program: Program, port: int) -> int:
    """Return the process that is connected to this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
    (pid,) = [pid for pid in program.workers() if sockets & set(_descriptors(pid))]
    return pid


def _descriptors(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield str(descriptor.readlink())


def test_nothing_is_imported_without_a_fleet() -> None:
    """No command and no other process loads the libraries of the extra."""
    modules = (
        "sidecar.commands.run, sidecar.commands.tail.command, sidecar.commands.stats.command, sidecar.commands.explain.records"
    )
    code = f"import sys, {modules}; print({{'nats', 'httpx', 'nkeys'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_life_of_the_process(tmp_path: Path) -> None:
    """In the sandbox of the unit: the process is killed, loses its server, and is not wanted any more."""
    endpoint = Endpoint()
    seed, public = nkey()
    (tmp_path / "creds").write_text(seed)
    (tmp_path / "creds").chmod(0o600)
    with server(users((public, {}))) as one, serving(endpoint):
        made = with_fleet(tmp_path, one, credentials=tmp_path / "creds")
        make_stream(made)
        section = (
            f'[fleet]\nservers = "{one.url}"\nnode = "mx1"\ncredentials = "{tmp_path}/creds"\n[admin]\nsocket = "unix:admin"'
        )
        unstarted = Program(settings=section)
        unstarted.python = [str(SANDBOX), str(UNIT), sys.executable, *unstarted.python]
        with unstarted as program:
            (program.directory / "secret").write_text(KEY)
            (program.directory / "secret").chmod(0o600)
            program.settings += f'\n[[webhook]]\nname = "crm"\nurl = "{endpoint.url}"\nsecret_file = "secret"\n'
            program.write()
            program.signal(signal.SIGHUP)
            bounce(program)
            wait_until(lambda: len(stored(made)) == 2, "Reception and OOB are in the stream")
            assert os.getpriority(os.PRIO_PROCESS, shipper(program, one.port)) == os.getpriority(os.PRIO_PROCESS, 0) + 10
            assert os.sched_getscheduler(shipper(program, one.port)) == os.SCHED_BATCH
            os.kill(shipper(program, one.port), signal.SIGKILL)
            bounce(program)
            wait_until(lambda: len(stored(made)) == 4, "another process continues")
            one.kill()
            bounce(program)
            wait_until(lambda: "Reader fleet does not deliver records since" in status(program), "the status has the reason")
            wait_until(lambda: samples(program)['sidecar_reader_behind_seconds{reader="fleet"}'] > 0, "so have the metrics")
            one.start()
            wait_until(lambda: len(stored(made)) == 6, "what waited is shipped")
            wait_until(lambda: "Reader fleet" not in status(program), "all is well")
            wait_until(lambda: len(b"".join(one.body for one in endpoint.accepted).splitlines()) == 6, "the webhook has all")
            checkpoint = program.directory / "state/checkpoints/fleet.json"
            assert checkpoint.exists()
            program.settings = ""
            program.write()
            program.signal(signal.SIGHUP)
            wait_until(lambda: not checkpoint.exists(), "retention does not wait for the shipper any more")
            hook = program.directory / "state/checkpoints/webhook-crm.json"
            wait_until(lambda: not hook.exists(), "nor for the webhook")
            assert program.stop() == 0
        assert len(b"".join(one.body for one in endpoint.accepted).splitlines()) == 6
        found = stored(made)
        assert (len(found), repeated(found)) == (6, [])
        assert {subject.rpartition(".")[2] for subject, *_ in found} == {"Reception", "OOB"}
