"""Changed files: a change is seen when it is complete, and leads to a reload as SIGHUP does."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.config.files import stamp_of
from sidecar.core.settings.values import Source
from sidecar.daemon.process.watch import FileWatch
from tests.daemon.process.starting import quick
from tests.daemon.process.test_running import MORE_DOMAINS, accepts, reload, unstarted
from tests.mta.processes import wait_until
from tests.wire.program import Program

LOOK = {"reload.LOOK_SECONDS": 0.1}


def source(path: Path) -> Source:
    return Source(path=path, stamp=stamp_of(path), digest=None)


def rewrite(path: Path) -> None:
    path.write_text("other", encoding="ascii")


def swap(path: Path) -> None:
    """As editors do: the same length, the same time, another file."""
    other = path.with_suffix(".new")
    other.write_text(path.read_text("ascii"), encoding="ascii")
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


CHANGES = [rewrite, swap, Path.unlink, lambda path: path.chmod(0o400)]


@pytest.mark.parametrize("change", CHANGES, ids=["rewritten", "swapped", "removed", "readable"])
def test_a_change_is_seen_when_two_looks_find_the_same(tmp_path: Path, change: Callable[[Path], None]) -> None:
    changing, other = tmp_path / "a.toml", tmp_path / "b.toml"
    for path in (changing, other):
        path.write_text("x", encoding="ascii")
    watch = FileWatch([source(changing), source(other)])
    assert [watch.changed() for _ in range(2)] == [[], []]
    change(changing)
    assert [watch.changed() for _ in range(2)] == [[], [changing]]
    watch.follow([source(changing), source(other)])
    assert [watch.changed() for _ in range(2)] == [[], []]


def test_rights_that_stat_does_not_show_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an access list, or a rule of a security module. Only a file that could not be read is asked about them."""
    path, other = tmp_path / "a.toml", tmp_path / "b.toml"
    for file in (path, other):
        file.write_text("x", encoding="ascii")
    readable = {path: False, other: False}
    monkeypatch.setattr("os.access", lambda file, _: readable[file])
    watch = FileWatch([source(path), replace(source(other), digest="00")])
    assert [watch.changed() for _ in range(2)] == [[], []]
    readable.update({path: True, other: True})
    assert [watch.changed() for _ in range(2)] == [[], [path]]


@pytest.mark.parametrize("repair", [lambda path: path.chmod(0o755), lambda path: path.parent.chmod(0o755)])
def test_the_rights_of_a_folder_are_seen_and_nothing_else_of_it(tmp_path: Path, repair: Callable[[Path], None]) -> None:
    """Also those of a folder above it. Files come and go there all the time."""
    above = tmp_path / "above"
    folder = above / "records"
    folder.mkdir(parents=True)
    watch = FileWatch([])
    for path in (folder, above):
        path.chmod(0o700)
    watch.follow([], [folder])
    (folder / "segment").touch()
    (above / "other").mkdir()
    assert [watch.changed() for _ in range(2)] == [[], []]
    repair(folder)
    watch.changed()
    assert len(watch.changed()) == 1


def test_while_a_file_is_being_written_nothing_is_seen(tmp_path: Path) -> None:
    """A copy that grows from look to look is not read half-way."""
    path = tmp_path / "a.toml"
    path.write_text("", encoding="ascii")
    watch = FileWatch([source(path)])
    for _ in range(5):
        with path.open("a") as file:
            file.write("more")
        assert watch.changed() == []
    assert watch.changed() == [path]


def test_a_file_that_changed_while_it_was_read_is_seen(tmp_path: Path) -> None:
    """Between the stamp and the first look, too."""
    path = tmp_path / "a.toml"
    path.write_text("x", encoding="ascii")
    before = source(path)
    rewrite(path)
    watch = FileWatch([before])
    assert [watch.changed() for _ in range(2)] == [[], [path]]


def test_a_changed_file_is_loaded_without_a_signal() -> None:
    with quick(LOOK) as program:
        program.start()
        assert not accepts(program, b"<a@more.example>")
        program.write(domains=MORE_DOMAINS)
        wait_until(lambda: program.count("reloaded") == 1, "it has reloaded")
        wait_until(lambda: accepts(program, b"<a@more.example>"), "the new policy serves")
        (line,) = [line for line in program.lines() if line["event"].startswith("files have changed")]
        assert str(program.directory / "listener_domains.toml") in line["files"]
        assert program.stop() == 0


COUNTING = """
from sidecar.daemon.process.supervisor import Supervisor
look_at_files = Supervisor._look_at_files
def look_and_count(self):
    with open({path!r}, "a") as file:
        file.write(".")
    look_at_files(self)
Supervisor._look_at_files = look_and_count
main()
"""


def count_looks(program: Program) -> None:
    """Have the program write down each look, so that a test knows when one had no effect."""
    path = program.directory / "looks"
    path.touch()
    program.python[1] = program.python[1].replace("main()", COUNTING.format(path=str(path)))


def looks(program: Program, times: int = 8) -> None:
    """Wait until it has had the chance to look at its files so often."""
    path = program.directory / "looks"
    before = len(path.read_bytes())
    wait_until(lambda: len(path.read_bytes()) >= before + times, f"it has looked {times} times")


def test_a_bad_file_changes_nothing_and_is_logged_once_and_its_repair_is_seen() -> None:
    with quick(LOOK) as program:
        count_looks(program)
        program.start()
        before = program.workers()
        program.write(domains='["a.example"]\nrelay_too = true\n')
        wait_until(lambda: program.count("the reload failed") == 1, "the reload has failed")
        looks(program)
        assert (program.count("the reload failed"), program.workers()) == (1, before)
        assert program.count('"relay_too" is not a known key') == 1
        program.write(domains=MORE_DOMAINS)
        wait_until(lambda: program.count("reloaded") == 1, "it has reloaded")
        looks(program)
        assert program.count("files have changed") == 2
        assert program.stop() == 0


def test_a_file_that_only_the_bad_settings_name_is_watched_too() -> None:
    """To fix it is enough: the settings file itself was right."""
    with quick(LOOK) as program:
        program.start()
        config = program.directory / "sidecar.toml"
        config.write_text(config.read_text().replace('"listener_domains.toml"', '"listener_domains.toml", "more.toml"'))
        wait_until(lambda: program.count("the reload failed") == 1, "the reload has failed")
        (program.directory / "more.toml").write_text('["more.example"]\nrelay_to = true\n')
        # It may be seen while it is still empty, and is then loaded again.
        wait_until(lambda: accepts(program, b"<a@more.example>"), "it has reloaded")


def test_with_reload_on_change_off_only_sighup_loads() -> None:
    """And SIGHUP can turn it on."""
    with quick(LOOK, settings="reload_on_change = false") as program:
        count_looks(program)
        program.start()
        program.settings = ""
        program.write(domains=MORE_DOMAINS)
        looks(program)
        assert not accepts(program, b"<a@more.example>")
        program.signal(signal.SIGHUP)
        wait_until(lambda: program.count("reloaded") == 1, "it has reloaded")
        assert program.count("files have changed") == 0
        (program.directory / "listener_domains.toml").write_text("")
        wait_until(lambda: program.count("reloaded") == 2, "it has reloaded by itself")
        assert not accepts(program, b"<a@more.example>")


def test_what_cannot_change_is_logged_and_stays(tmp_path: Path) -> None:
    """The state, the journal below it and the node's id stay where they are until the next start."""
    with quick(LOOK) as program:
        program.start()
        config = program.directory / "sidecar.toml"
        text = config.read_text().replace('state_directory = "state"', f'state_directory = "{tmp_path}/new"')
        config.write_text(text.replace('socket = "unix:', 'socket_mode = "0600"\nsocket = "unix:'))
        wait_until(lambda: program.count("reloaded") == 1, "it has reloaded")
        assert program.says("state_directory has changed: that takes effect at the next start")
        assert program.says("milter.socket_mode has changed: that takes effect at the next start")
        assert accepts(program, b"<a@relay.example>")
        assert program.stop() == 0
        assert not (tmp_path / "new").exists()


SLOW_WORKERS = """\
import time
from sidecar.cli import main
from sidecar.daemon.process import reload, systemd, worker
reload.LOOK_SECONDS = systemd.ASK_SECONDS = 0.1
begin = worker._begin
def begin_slowly(*given):
    time.sleep(2.0)
    return begin(*given)
worker._begin = begin_slowly
main()
"""


def test_a_supervisor_that_waits_for_workers_takes_no_time() -> None:
    """Neither at the start nor in the middle of a reload, however often it has something to look at."""
    with unstarted() as program:
        program.python = ["-c", SLOW_WORKERS]
        program.start()
        before = cpu_seconds(program.pid)
        reload(program, "reloaded")
        assert cpu_seconds(program.pid) - before < 0.5
        assert program.stop() == 0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its own and the kernel's (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
