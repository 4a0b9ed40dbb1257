"""The process that loads the settings: what it passes, and what the program does if it passes nothing."""

import os
import signal
import time
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.core.settings.domain_table import DomainTable
from sidecar.daemon.process.loader import Loader, LoaderError
from tests.daemon.process.starting import quick
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE
from tests.wire.program import DOMAINS, Program

MORE = f'{DOMAINS}["more.example"]\nrelay_to = true\n'
WARNED = '["example"]\nlog_oob = "LogThenDrop"\n[listener."10.0.0.1:25"."*.a.com"]\nrelay_from = ["10.0.0.0/24"]\n'


def config(folder: Path, domains: str = WARNED) -> Path:
    (folder / "domains.toml").write_text(domains)
    (folder / "sidecar.toml").write_text('listener_domains = ["domains.toml"]\n[log]\nlevel = "debug"\n')
    return folder / "sidecar.toml"


def test_it_passes_what_loading_returns(tmp_path: Path) -> None:
    """Settings first, with the domains in a shared mapping; then the warnings; then it ends."""
    path = config(tmp_path)
    loader = Loader(path)
    loaded = loader.wait()
    expected = load(path)
    assert loaded.settings == expected.settings
    assert loaded.sources == expected.sources
    assert loaded.problems == ()
    assert loaded.settings is not None
    assert isinstance(loaded.settings.domains, DomainTable)
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert {line.split()[1] for line in maps if "memfd:sidecar-domains" in line} == {"r--s"}
    assert loader.receive() == expected.problems != ()
    assert loader.receive() is None
    assert loader.reap() is None


def test_unchanged_domains_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader gets the table that serves, and passes it back without parsing a file."""
    path = config(tmp_path, '["a.com"]\nrelay_from = ["10.0.0.1"]\n')
    first = Loader(path)
    settings = first.wait().settings
    assert settings is not None
    first.abandon()
    monkeypatch.setattr("sidecar.config.loading.read_domains", pytest.fail)
    assert isinstance(settings.domains, DomainTable)
    second = Loader(path, known=settings.domains)
    assert second.wait().settings == settings
    second.abandon()


def test_warnings_leave_the_cpu_to_others(tmp_path: Path) -> None:
    """Once the settings are passed on, the process has a lower priority than this one: nothing waits for it."""
    loader = Loader(config(tmp_path))
    loader.wait()
    assert os.getpriority(os.PRIO_PROCESS, loader.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    assert loader.receive()
    assert loader.receive() is None
    assert loader.reap() is None


def test_settings_with_errors_are_passed_as_findings(tmp_path: Path) -> None:
    path = config(tmp_path, '["a.com"]\nrelay_too = true\nttl = 5\n')
    loader = Loader(path)
    assert loader.wait() == load(path)
    assert loader.receive() is None
    assert loader.reap() is None


def test_it_closes_what_is_its_parents(tmp_path: Path) -> None:
    """A pipe that the parent closes has no other end then."""
    reading, writing = os.pipe()
    loader = Loader(config(tmp_path))
    os.close(writing)
    try:
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)
        loader.kill()
        loader.reap()


def test_one_that_is_killed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.daemon.process.loader.Reading", lambda _, **__: time.sleep(60))
    loader = Loader(config(tmp_path))
    os.kill(loader.pid, signal.SIGKILL)
    with pytest.raises(LoaderError, match="the process that loads the settings was killed by SIGKILL"):
        loader.wait()


def test_one_that_takes_too_long_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.daemon.process.loader.LOAD_WITHIN", 0.2)
    monkeypatch.setattr("sidecar.daemon.process.loader.Reading", lambda _, **__: time.sleep(60))
    with pytest.raises(LoaderError, match=r"took longer than 0 seconds; look whether their files can be read"):
        Loader(config(tmp_path)).wait()


def test_one_that_cannot_be_started_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither end of its control socket."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names, not paths
    monkeypatch.setattr("os.fork", lambda: (_ for _ in ()).throw(BlockingIOError(11, "no more processes")))
    with pytest.raises(BlockingIOError):
        Loader(config(tmp_path))
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - likewise


def test_one_whose_settings_cannot_be_read_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when memory runs out here. It is not waited for, and the caller gets the exception."""
    monkeypatch.setattr("sidecar.daemon.process.plan.Handover.read", lambda _: (_ for _ in ()).throw(MemoryError()))
    loader = Loader(config(tmp_path))
    with pytest.raises(MemoryError):
        loader.wait()
    assert loader.control.fileno() == -1
    os.waitpid(loader.pid, 0)


def test_without_a_supervisor_it_ends_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It logs nothing."""
    loader = Loader(config(tmp_path))
    os.kill(loader.pid, signal.SIGSTOP)
    loader.control.close()
    os.kill(loader.pid, signal.SIGCONT)
    os.waitpid(loader.pid, 0)
    assert capfd.readouterr().err == ""


# --- in the program

# While the file `marker` exists, loading ends as its text says.
TROUBLED = """
import os, time
from pathlib import Path
from sidecar.cli import main
from sidecar.daemon.process import loader
loader.LOAD_WITHIN = 0.5
reading, marker = loader.Reading, Path({marker!r})
def read(config, **how):
    match marker.read_text() if marker.exists() else "":
        case "hang": time.sleep(60)
        case "die": os.kill(os.getpid(), 9)
        case "fail": raise MemoryError("no room")
    return reading(config, **how)
loader.Reading = read
main()
"""
TROUBLES = [("hang", "took longer than"), ("die", "was killed by SIGKILL"), ("fail", "ended with status 1")]


@pytest.mark.parametrize(("trouble", "said"), TROUBLES)
def test_a_loader_in_trouble_is_a_failed_reload(trouble: str, said: str) -> None:
    """The old settings remain in use, before and after, and the next reload may succeed."""
    with quick({}) as program:
        marker = program.directory / "trouble"
        program.python = ["-c", TROUBLED.format(marker=str(marker))]
        program.start()
        before = program.workers()
        marker.write_text(trouble)
        program.write(domains=MORE)
        program.signal(signal.SIGHUP)
        wait_until(lambda: program.says("the reload failed"), "the reload fails")
        assert program.says(said)
        assert program.workers() == before
        assert not accepts_more(program)
        marker.unlink()
        program.signal(signal.SIGHUP)
        wait_until(lambda: program.count("reloaded") == 1, "the next reload succeeds")
        assert accepts_more(program)
        assert program.stop() == 0


@pytest.mark.parametrize(("trouble", "said"), TROUBLES)
def test_a_loader_in_trouble_is_a_failed_start(trouble: str, said: str) -> None:
    with quick({}) as program:
        marker = program.directory / "trouble"
        program.python = ["-c", TROUBLED.format(marker=str(marker))]
        marker.write_text(trouble)
        assert program.launch().wait(timeout=120) == 1
        assert said in program.log.read_text()


def test_the_supervisor_serves_while_settings_are_loaded() -> None:
    """Workers that die then are replaced, and a stop does not wait."""
    with quick({}) as program:
        marker = program.directory / "trouble"
        program.python = ["-c", TROUBLED.format(marker=str(marker)).replace("LOAD_WITHIN = 0.5", "LOAD_WITHIN = 50.0")]
        program.start()
        marker.write_text("hang")
        program.signal(signal.SIGHUP)
        killed = min(program.workers())
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(program.workers()) == 2 and killed not in program.workers(), "the worker is replaced")
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 40


def test_warnings_are_logged_after_readiness_and_after_a_reload() -> None:
    """They are log lines like any other."""
    with Program(domains='["single"]\nrelay_to = true\n') as program:
        wait_until(lambda: warned(program) == 1, "the start warns")
        program.signal(signal.SIGHUP)
        wait_until(lambda: warned(program) == 2 and program.count("reloaded") == 1, "the reload warns")
        assert program.stop() == 0


def warned(program: Program) -> int:
    return sum("single" in str(line.get("where", "")) or "single" in str(line.get("key", "")) for line in program.lines())


def accepts_more(program: Program) -> bool:
    with program.mta() as mta:
        mta.begin()
        return mta.envelope(b"<s@x.example>", b"<a@more.example>") == [CONTINUE]


def test_a_mapping_is_shared(tmp_path: Path) -> None:
    """What the loader wrote is one object of the kernel for all processes, until the last of them closes it."""
    loader = Loader(config(tmp_path))
    loaded = loader.wait()
    assert loaded.settings is not None
    domains = loaded.settings.domains
    assert isinstance(domains, DomainTable)
    inode = str(os.fstat(domains.descriptor).st_ino)

    def is_mapped() -> bool:
        maps = Path("/proc/self/maps").read_text().splitlines()
        return any(line.split()[4] == inode for line in maps if "memfd:sidecar-domains" in line)

    assert is_mapped()
    del loaded, domains
    assert not is_mapped()
    loader.kill()
    loader.reap()
