"""What must work before anything starts: folders, and the installation's id."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings, LogSettings, MilterSettings, NetworkList, Source
from sidecar.daemon.process.plan import make_plan
from sidecar.daemon.process.privileges import SetupError


def settings(folder: Path, node_id: str | None = None) -> Settings:
    return Settings(
        relay_hosts=NetworkList(networks=(), where=None),
        milter=MilterSettings(),
        journal=JournalSettings(directory=folder / "state" / "journal"),
        log=LogSettings(),
        state_directory=folder / "state",
        node_id=node_id,
    )


def test_the_id_is_made_once_whole_and_read_ever_after(tmp_path: Path) -> None:
    first = make_plan(settings(tmp_path), ()).node_id
    assert UUID(first).version == 4
    assert make_plan(settings(tmp_path), ()).node_id == first
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["journal", "node_id"]


def test_an_id_in_the_settings_wins_and_is_written_nowhere(tmp_path: Path) -> None:
    chosen = "0de00000-0000-4000-8000-000000000000"
    assert make_plan(settings(tmp_path, chosen), ()).node_id == chosen
    assert not (tmp_path / "state" / "node_id").exists()


@pytest.mark.parametrize("text", ["", "x", "0de00000-0000-4000-8000", "\xff"])
def test_a_spoilt_id_is_a_sentence_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state" / "node_id"
    path.parent.mkdir()
    path.write_text(text, "latin-1")
    with pytest.raises(SetupError, match=f"{path} holds no UUID: fix it, or remove it to get a new id"):
        make_plan(settings(tmp_path), ())


def test_an_id_that_another_process_has_made_meanwhile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two sidecars start at the same time: both have one id, whoever wrote the file."""
    link, other = os.link, "0de00000-0000-4000-8000-000000000001"

    def late(source: str, target: Path) -> None:
        target.write_text(other, "ascii")
        link(source, target)

    monkeypatch.setattr("os.link", late)
    assert make_plan(settings(tmp_path), ()).node_id == other


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("elsewhere"), os.mkfifo])
def test_an_id_that_is_no_plain_file_is_a_sentence_and_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "state").mkdir()
    make(tmp_path / "state" / "node_id")
    with pytest.raises(SetupError, match=r"node_id(:| holds no UUID).*remove it to get a new id"):
        make_plan(settings(tmp_path), ())


def test_a_folder_that_cannot_be_looked_into_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, on a file system that does not answer as it should."""

    def fail(*_: object, **_more: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("sidecar.daemon.process.privileges.entered", fail)
    with pytest.raises(SetupError, match=r"cannot look into .*: Input/output error; name that user with user ="):
        make_plan(settings(tmp_path), ())


def test_a_folder_that_cannot_be_made_is_a_sentence_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(SetupError, match=r"cannot write records into .*/state/journal: Not a directory; give"):
        make_plan(settings(tmp_path), ())


def test_an_engine_whose_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the package and what to write instead. The other engine does without it."""
    monkeypatch.setattr("sidecar.daemon.process.plan.has_package", lambda _: False)
    direct = settings(tmp_path)
    make_plan(direct, ())
    with pytest.raises(SetupError, match=r'"libmilter" needs pymilter.*write engine = "direct".*sidecar\[libmilter\]'):
        make_plan(replace(direct, milter=replace(direct.milter, engine="libmilter")), ())


def test_the_revision_follows_the_bytes_of_the_files(tmp_path: Path) -> None:
    """The same bytes are the same revision, wherever and whenever they were read; any other bytes are another."""

    def revision(*digests: str, stamp: int = 1) -> str:
        sources = [Source(path=tmp_path / str(stamp), stamp=(stamp,), digest=digest * 32) for digest in digests]
        return make_plan(settings(tmp_path), sources).revision

    assert revision("aa", "bb") == revision("aa", "bb", stamp=2)
    assert len({revision("aa", "bb"), revision("bb", "aa"), revision("aa"), revision("aa", "cc"), revision()}) == 5
