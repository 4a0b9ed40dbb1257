"""A test run removes its temporary directory, however it ends, and fails if a test left something in it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import ROOT
from tests.mta.processes import wait_until

INNER = """\
import os, tempfile, time
from pathlib import Path

def test_inner(tmp_path):
    (tmp_path / "file").touch()
    Path({name!r}).write_text(tempfile.gettempdir())
    {rest}
"""
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]


@contextmanager
def run(folder: Path, rest: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run of one test, which writes the name of its temporary directory and does the rest. Nothing of it stays."""
    (folder / "test_inner.py").write_text(INNER.format(name=str(folder / "name"), rest=rest))
    command = [sys.executable, "-m", "pytest", *OPTIONS, *options, str(folder / "test_inner.py")]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "STARTED": str(folder / "started")}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def directory(folder: Path) -> Path | None:
    """Return the temporary directory of the run, or None if it has not written its name."""
    name = (folder / "name").read_text() if (folder / "name").exists() else ""
    return Path(name) if name else None


@pytest.mark.parametrize(
    ("rest", "status", "shown"),
    [
        ("", pytest.ExitCode.OK, "1 passed"),
        ("assert False", pytest.ExitCode.TESTS_FAILED, "1 failed"),
        ("tempfile.mkdtemp(prefix='a-folder-')", pytest.ExitCode.TESTS_FAILED, "A test did not remove a-folder-"),
    ],
)
def test_nothing_is_left(tmp_path: Path, rest: str, status: int, shown: str) -> None:
    with run(tmp_path, rest) as process:
        said, _ = process.communicate()
    assert (process.returncode, shown in said) == (status, True), said
    made = directory(tmp_path)
    assert made is not None
    assert not made.exists()


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")])
def test_a_test_that_does_not_run_is_a_fault(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_runtest_protocol(item): return True if item.name == 'test_lost' else None"
    )
    with run(tmp_path, "\ndef test_lost(): pass", *options) as process:
        said, _ = process.communicate()
    assert (process.returncode, "test_lost did not run." in said) == (pytest.ExitCode.TESTS_FAILED, True), said


def test_a_quick_run_skips_what_starts_another_program(tmp_path: Path) -> None:
    with run(tmp_path, "__import__('subprocess').run(['touch', os.environ['STARTED']])", "--quick") as process:
        said, _ = process.communicate()
    assert "1 skipped" in said, said
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)])
def test_nothing_is_left_after_an_interruption(
    tmp_path: Path, send: Callable[[int, int], None], number: signal.Signals
) -> None:
    """A worker of xdist has the directory of the process that started it. A terminal sends Ctrl-C to both."""
    with run(tmp_path, "time.sleep(600)", "-p", "xdist", "-n", "1") as process:
        wait_until(lambda: directory(tmp_path), "the test runs", seconds=120)
        made = directory(tmp_path)
        assert made is not None
        assert made.exists()
        send(process.pid, number)
        said, _ = process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, said
    assert not made.exists()
