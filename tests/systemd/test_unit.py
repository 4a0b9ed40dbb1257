"""The unit: systemd accepts it, rates its sandbox as safe, and the program works in that sandbox."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.daemon.process.loader import LOAD_WITHIN
from sidecar.daemon.process.workers import ANSWER_WITHIN, KILL_AFTER, READY_WITHIN, STOP_GRACE
from tests import ROOT
from tests.daemon.process.starting import quick
from tests.daemon.process.test_running import MORE_DOMAINS, accepts, finish, reload
from tests.mta.processes import PATIENCE, wait_until
from tests.systemd.sandbox import expanded, settings_of, system_calls

FOLDER = ROOT / "systemd"
UNIT = FOLDER / "sidecar.service"
POSTFIX = FOLDER / "postfix.conf"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="this machine has no systemd-analyze"
)


def run(*command: str) -> tuple[int, str]:
    """Run a tool of systemd. Return its exit status and its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


@needs_systemd
@pytest.mark.parametrize("drop_in", [False, True])
def test_systemd_finds_nothing_wrong(tmp_path: Path, drop_in: bool) -> None:
    """But that the program is not where the unit expects it, which is the operator's to fix."""
    unit = tmp_path / "sidecar.service"
    program = settings_of(UNIT)["ExecStart"][0].split()[0]
    unit.write_text(UNIT.read_text().replace(program, sys.executable))
    if drop_in:
        (tmp_path / "sidecar.service.d").mkdir()
        shutil.copy(POSTFIX, tmp_path / "sidecar.service.d")
    assert run("systemd-analyze", "verify", "--man=no", str(unit)) == (0, "")


@needs_systemd
def test_the_exposure_is_below_2(tmp_path: Path) -> None:
    """With Postfix's group as well."""
    (tmp_path / "sidecar.service.d").mkdir()
    shutil.copy(POSTFIX, tmp_path / "sidecar.service.d")
    for unit in (UNIT, Path(shutil.copy(UNIT, tmp_path))):
        status, text = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(unit))
        (level,) = re.findall(r"Overall exposure level for sidecar.service: ([0-9.]+)", text)
        assert (status, float(level) < 2.0) == (0, True)


@needs_systemd
def test_sysusers_makes_the_user_of_the_unit(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert run("systemd-sysusers", f"--root={tmp_path}", "--inline", *sysusers()) == (
        0,
        "Creating group 'sidecar' with GID 999.\nCreating user 'sidecar' (Milter policy daemon) with UID 999 and GID 999.\n",
    )
    assert settings_of(UNIT)["User"] == settings_of(UNIT)["Group"] == ["sidecar"]


def sysusers() -> list[str]:
    lines = (FOLDER / "sidecar.sysusers").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_order_of_the_start() -> None:
    """The sidecar starts before the units that really start an MTA: on Debian 12 that is an instance of postfix@.service."""
    before = settings_of(UNIT)["Before"][0].split()
    assert before == ["postfix@-.service", "postfix.service", "sendmail.service"]
    debian = Path("/lib/systemd/system/postfix@.service")
    if debian.exists():
        assert "postmulti -i %i -p start" in settings_of(debian)["ExecStart"][0]


def test_systemd_is_more_patient_than_the_program() -> None:
    """What the program fixes or ends by itself is not cut short."""
    seconds = {key: float(values[0]) for key, values in settings_of(UNIT).items() if key.endswith("Sec")}
    # Half of it may have passed when a worker begins to hang, and the one in its place must have answered.
    assert seconds["WatchdogSec"] / 2 > ANSWER_WITHIN
    assert seconds["TimeoutStopSec"] > STOP_GRACE + KILL_AFTER
    assert seconds["TimeoutStartSec"] > LOAD_WITHIN + READY_WITHIN


@needs_systemd
def test_the_filter_leaves_out_what_no_milter_needs() -> None:
    allowed = system_calls(settings_of(UNIT)["SystemCallFilter"])
    assert allowed > expanded("@chown") | {"accept", "clone", "fsync", "kill", "prlimit64"}
    assert not allowed & {
        "mount",
        "ptrace",
        "setuid",
        "setresuid",
        "bpf",
        "chroot",
        "capset",
        "init_module",
        "reboot",
    }


@needs_systemd
@pytest.mark.skipif(
    shutil.which("gcc") is None and not os.environ.get("CI"), reason="there is no gcc to ask for the kernel's numbers"
)
@pytest.mark.parametrize(("engine", "inet"), [("libmilter", False), ("libmilter", True), ("direct", False)])
def test_the_program_works_in_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, inet: bool) -> None:
    """It serves, writes, reloads, replaces a worker, feeds the watchdog and stops; and nothing is forbidden."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "500000")
    sandbox = str(Path(__file__).with_name("sandbox.py"))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news,
        quick({"reload.LOOK_SECONDS": 0.1}, engine=engine, inet=inet, milter='socket_group = "root"') as program,
    ):
        news.settimeout(PATIENCE)
        news.bind(str(tmp_path / "notify"))
        program.python = [sandbox, str(UNIT), sys.executable, *program.python]
        program.start()
        for pid in (program.pid, *program.workers()):
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^CapEff:\s0{16}\n(.*\n)*NoNewPrivs:\s1\nSeccomp:\s2\n", status, re.MULTILINE)
        with program.mta() as mta:
            mta.begin()
            finish(mta)
        assert len(program.records()) == 4
        reload(program, "reloaded")
        program.write(domains=MORE_DOMAINS)
        wait_until(lambda: program.count("reloaded") == 2, "it has reloaded by itself")
        wait_until(lambda: accepts(program, b"<a@more.example>"), "the new policy serves")
        wait_until(lambda: len(program.workers()) == 2, "the former workers are gone")
        os.kill(min(program.workers()), signal.SIGKILL)
        wait_until(lambda: len(program.workers()) == 2 and program.answers(), "it is replaced")
        while news.recv(4096) != b"WATCHDOG=1":
            pass
        assert program.stop() == 0
        troubles = [line["event"] for line in program.lines() if line["level"] in {"error", "warning"}]
        # The worker that is killed may have had the supervisor's own question to the socket.
        expected = ("SIGKILL", "as root", "does not answer: Connection reset by peer", "libmilter trusts its client")
        assert [text for text in troubles if not any(words in text for words in expected)] == []
