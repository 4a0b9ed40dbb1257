"""Started as root, the program listens, gives up root's rights for good, and all that follows works without them."""

import os
import pwd
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.settings.settings import Settings
from sidecar.daemon.process.privileges import Identity, SetupError, create_for, new_identity
from tests.building import settings
from tests.daemon.process.starting import quick
from tests.daemon.process.test_running import MORE_DOMAINS, accepts, finish, refused_start, reload
from tests.mta.processes import wait_until
from tests.wire.program import Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

USER = pwd.getpwnam("daemon")
AS_USER = 'user = "daemon"'


@contextmanager
def enterable(**how: Any) -> Iterator[Program]:
    """Yield a program that is not started yet. Its folder belongs to root, and every user may enter it."""
    with quick({"reload.LOOK_SECONDS": 0.1}, **how) as program:
        program.directory.chmod(0o755)
        # Its user cannot write where the coverage is kept.
        program.environ["COVERAGE_PROCESS_CONFIG"] = None
        yield program


@pytest.fixture
def program() -> Iterator[Program]:
    with enterable(settings=AS_USER) as program:
        program.start()
        yield program


def facts(pid: int) -> dict[str, str]:
    """Return what proc_pid_status(5) says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_no_process_has_roots_rights_and_none_can_get_them_back(program: Program) -> None:
    """Real, effective, saved and file system ids of the supervisor and of every worker."""
    for pid in (program.pid, *program.workers()):
        found = facts(pid)
        assert found["Uid"].split() == [str(USER.pw_uid)] * 4
        assert found["Gid"].split() == [str(USER.pw_gid)] * 4
        assert found["Groups"].split() == [str(group) for group in os.getgrouplist("daemon", USER.pw_gid)]
        assert {found[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
        assert found["NoNewPrivs"] == "1"
    assert program.says("gave up root's rights for those of user daemon")
    assert not program.says("runs as root")


def test_what_it_writes_belongs_to_the_user(program: Program) -> None:
    """The folders it found missing, the records, and the socket, which only root could create there."""
    with program.mta() as mta:
        mta.begin()
        finish(mta)
    state = program.directory / "state"
    (segment,) = (state / "journal").glob("*.jsonl")
    for path in (state, state / "journal", state / "node_id", state / "status.json", segment, program.path):
        assert path.stat().st_uid == USER.pw_uid, path
    assert stat.S_IMODE(state.stat().st_mode) == 0o750
    assert stat.S_IMODE(program.path.stat().st_mode) == 0o660


def test_a_reload_and_a_death_are_survived_without_rights(program: Program) -> None:
    program.write(domains=MORE_DOMAINS)
    wait_until(lambda: program.count("reloaded") == 1, "it has reloaded")
    wait_until(lambda: accepts(program, b"<a@more.example>"), "the new policy serves")
    wait_until(lambda: len(program.workers()) == 2, "the former workers are gone")
    killed = min(program.workers())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in program.workers() and program.answers(), "it is replaced")


def test_it_stops_in_order_and_starts_again_though_its_socket_had_to_stay(program: Program) -> None:
    """The folder of the socket is root's: without rights the path cannot be removed."""
    assert program.stop() == 0
    assert program.count("stopped") == 1
    program.start()
    assert program.answers()


def test_a_file_that_cannot_be_read_any_more_is_a_reload_that_fails_and_its_repair_is_seen(program: Program) -> None:
    config = program.directory / "sidecar.toml"
    config.chmod(0o600)
    reload(program, "the reload failed")
    assert program.says(f'This user has no permission to read "{config}".')
    assert program.answers()
    config.chmod(0o644)
    wait_until(lambda: program.count("reloaded") == 1, "it has reloaded")


@pytest.mark.parametrize("name", ["sidecar.toml", "listener_domains.toml"])
def test_it_does_not_start_with_files_that_it_could_not_load_again(name: str) -> None:
    with enterable(settings=AS_USER) as program:
        path = program.directory / name
        path.chmod(0o600)
        assert f"user daemon is not permitted to read {path}, so that every reload would fail: let the user" in refused_start(
            program
        )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('user = "no-such-account"', "there is no user 'no-such-account' on this machine: "),
        ('user = "daemon"\ngroup = "no-such-account"', "there is no group 'no-such-account' on this machine: "),
    ],
)
def test_a_user_that_does_not_exist_is_a_sentence(lines: str, said: str) -> None:
    with enterable(settings=lines) as program:
        text = refused_start(program)
        assert said in text
        assert "create it, or name another one in the settings" in text
        assert not program.path.exists()


def test_a_folder_that_the_user_may_not_write_to_is_a_sentence() -> None:
    """One that exists is never given away: it may be another user's."""
    with enterable(settings=AS_USER) as program:
        (program.directory / "state" / "journal").mkdir(parents=True)
        text = refused_start(program)
        assert "cannot write records into" in text
        assert "The output cannot be written" not in text
        assert (program.directory / "state" / "journal").stat().st_uid == 0


SLOW_WARNINGS = """
import time
from sidecar.cli import main
from sidecar.daemon.process import loader
class Slow(loader.Reading):
    def warnings(self, **how): time.sleep(60)
loader.Reading = Slow
main()
"""


def test_a_stop_ends_the_process_that_still_looks_for_warnings() -> None:
    """Root has started that process: the supervisor must be able to kill it without root's rights."""
    with enterable(settings=AS_USER) as program:
        program.python = ["-c", SLOW_WARNINGS]
        program.start()
        assert program.stop() == 0
        assert program.count("stopped") == 1


def test_the_group_can_be_another_one() -> None:
    with enterable(settings=f'{AS_USER}\ngroup = "mail"') as program:
        program.start()
        assert {facts(pid)["Gid"].split()[1] for pid in (program.pid, *program.workers())} == {"8"}
        assert (program.directory / "state").stat().st_gid == 8


def test_without_a_user_root_stays_root_and_is_warned_once() -> None:
    with enterable() as program:
        program.start()
        reload(program, "reloaded")
        warnings = [line["event"] for line in program.lines() if line["level"] == "warning"]
        assert warnings == [
            'everything here runs as root: write user = "sidecar" in the settings, or the name of another user without rights'
        ]
        assert facts(program.pid)["Uid"].split() == ["0"] * 4


UNPRIVILEGED = """\
import os
from sidecar.cli import main
# Now, since another user may not read their folder.
import sidecar.commands.run
import sidecar.log.lines
os.setgid(2)
os.setuid(2)
main()
"""


@pytest.mark.parametrize(("user", "warned"), [("bin", False), ("daemon", True)])
def test_without_root_the_user_stays_the_same(user: str, warned: bool) -> None:
    """With a warning, if the settings name another one."""
    with enterable(settings=f'user = "{user}"') as program:
        os.chown(program.directory, 2, 2)
        program.python = ["-c", UNPRIVILEGED]
        program.start()
        assert program.says(f'user = "{user}" has no effect') is warned
        assert facts(program.pid)["Uid"].split() == ["2"] * 4


DEFAULT_BY_USER = """\
import os
from pathlib import Path
from sidecar.cli import main
from sidecar.config import loading
def default(environ):
    named = environ.get("STATE_DIRECTORY")
    return Path(named) if named else Path({folder!r}) / ("of_root" if os.geteuid() == 0 else "of_others")
loading.default_state_directory = default
main()
"""


def test_the_default_state_directory_does_not_change_with_the_user() -> None:
    """Root's is another than a user's, and the program was both."""
    with enterable(settings=AS_USER) as program:
        config = program.directory / "sidecar.toml"
        config.write_text(config.read_text().replace('state_directory = "state"\n', ""))
        program.python = ["-c", DEFAULT_BY_USER.format(folder=str(program.directory))]
        program.start()
        reload(program, "reloaded")
        assert not program.says("state_directory has changed")
        assert (program.directory / "of_root" / "status.json").exists()


# --- folders


IDENTITY = Identity(user="daemon", uid=USER.pw_uid, gid=USER.pw_gid)


def test_a_missing_folder_is_made_for_the_user_and_those_above_it_stay_roots(tmp_path: Path) -> None:
    create_for(IDENTITY, tmp_path / "a" / "b")
    assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a" / "b").stat().st_uid) == (0, USER.pw_uid)


def test_a_folder_that_exists_and_one_behind_a_link_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for name in ("there", "link"):
        create_for(IDENTITY, tmp_path / name)
    assert (tmp_path / "there").stat().st_uid == 0


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot create .*/file/state for daemon: .*; choose another folder"):
        create_for(IDENTITY, tmp_path / "file" / "state")


@pytest.mark.parametrize(
    ("named", "gid"), [(settings(user="daemon"), USER.pw_gid), (settings(user="daemon", group="mail"), 8), (settings(), None)]
)
def test_the_group_is_that_of_the_user_unless_another_is_named(named: Settings, gid: int | None) -> None:
    identity = new_identity(named)
    assert (identity and identity.gid) == gid


@pytest.mark.parametrize("name", ["sidecar.toml", "listener_domains.toml"])
def test_a_start_that_fails_after_rights_were_given_up_logs_why_and_no_more(name: str) -> None:
    """The loader, which still looks for warnings, is not waited for."""
    with enterable(settings=AS_USER) as program:
        program.python = ["-c", SLOW_WARNINGS]
        (program.directory / name).chmod(0o600)
        said = refused_start(program)
        assert "is not permitted to read" in said.splitlines()[-1]
        assert "output" not in said


UNKILLABLE = """
loader.WARN_WITHIN = loader._ALARM_AFTER = 0.2
loader.Loader.kill = lambda self: None
main()
"""


def test_a_loader_that_cannot_be_killed_ends_by_itself() -> None:
    """When its time is over."""
    with enterable(settings=AS_USER) as program:
        program.python = ["-c", SLOW_WARNINGS.replace("main()", UNKILLABLE)]
        program.start()
        wait_until(lambda: program.says("the process that looks for warnings in the settings took longer"), "it ends")
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == 2, "it has ended, and only the workers are left")
        assert program.answers()
        assert program.stop() == 0
