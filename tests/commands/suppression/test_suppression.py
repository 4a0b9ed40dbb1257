"""`sidecar suppression`: the list, one address, the export, figures, a new database, and rules on recorded reports."""

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.commands.suppression.simulate import differences
from sidecar.core.suppressed import ShownEntry
from sidecar.core.text import rfc3339
from sidecar.suppression.locking import locked
from tests.suppression.journals import consume, list_of, with_list, write_segment
from tests.suppression.records import BEGIN, feedback, oob

# Records of the last days: entries of the commands are those of the present time.
DAYS = (time.time() - BEGIN) / 86400 - 5
HOSTILE = ("u\x1b[2J@example.net", "x" * 4096 + "@example.net", "u\u202e@example.net")
LOOKALIKE = "p\u0430ul@example.net"
RULES = '[[suppression.rule]]\nwhen = ["abuse"]\nexpire = 86400\n[[suppression.rule]]\nwhen = ["SpamBlock"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with settings, a journal and a list."""
    made = with_list(tmp_path)
    write_segment(
        made,
        0,
        [
            feedback("anna@example.com", day=DAYS, message="m1"),
            oob("ben@example.com", "InvalidRecipient", day=DAYS),
            oob("carl@sub.example.com", "BadDomain", day=DAYS),
            oob(LOOKALIKE, "BadDomain", day=DAYS),
            oob("dora@example.com", "SpamBlock", day=DAYS),
            *(oob(address, "BadDomain", day=DAYS) for address in HOSTILE),
        ],
    )
    (tmp_path / "sidecar.toml").write_text(
        'bounce_classifier = ["iana"]\nstate_directory = "."\n[suppression]\ndatabase = "list.db"\n'
    )
    consume(made, now=int(time.time()))
    return tmp_path


def run(folder: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["suppression", name, "--config", str(folder / "sidecar.toml"), *arguments])


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list(folder: Path) -> None:
    """By pages, by prefix and by domain; a letter that looks like another one makes another address."""
    every = ["anna@example.com", "ben@example.com", "carl@sub.example.com", LOOKALIKE]
    assert [one["address"] for one in objects(run(folder, "list", "--json"))] == every
    assert [one["address"] for one in objects(run(folder, "list", "--json", "--domain", "Example.com"))] == every[:2]
    assert [one["address"] for one in objects(run(folder, "list", "--json", "--prefix", "B"))] == [every[1]]
    page = run(folder, "list", "--json", "--limit", "2")
    assert [one["address"] for one in objects(page)] == every[:2]
    assert page.stderr == "There can be more: --after ben@example.com\n"
    assert [one["address"] for one in objects(run(folder, "list", "--json", "--after", every[1]))] == every[2:]
    assert objects(run(folder, "list", "--json"))[0] == {
        "address": "anna@example.com",
        "reason": "abuse",
        "source": "reports",
        "since": objects(run(folder, "list", "--json"))[0]["since"],
        "expires": None,
        "reports": ["m1"],
    }
    text = run(folder, "list").stdout
    assert "ben@example.com" in text
    assert "InvalidRecipient" in text
    assert run(folder, "list", "--prefix", "zz").stdout == "No address on the list matches.\n"


def test_show(folder: Path) -> None:
    found = run(folder, "show", "Anna@EXAMPLE.com")
    assert found.exit_code == 0
    assert found.stdout.startswith("anna@example.com is on the list: abuse, since ")
    assert "report  abuse  m1" in found.stdout
    absent = run(folder, "show", "dora@example.com", "--json")
    assert absent.exit_code == 1
    assert json.loads(absent.stdout) == {"address": "dora@example.com", "entry": None, "events": []}
    wrong = run(folder, "show", HOSTILE[0])
    assert wrong.exit_code == 2
    assert "is no address" in wrong.stderr
    assert "\x1b" not in wrong.output


def test_export(folder: Path) -> None:
    rows = list(csv.DictReader(run(folder, "export").stdout.splitlines()))
    assert [row["address"] for row in rows] == [one["address"] for one in objects(run(folder, "export", "--format", "jsonl"))]
    assert (rows[0]["reason"], rows[0]["expires"], len(rows)) == ("abuse", "", 4)


def test_stats(folder: Path) -> None:
    (found,) = objects(run(folder, "stats", "--json"))
    assert found["entries"] == 4
    assert found["journal"] == {"no_address": 3, "no_rule": 1, "reports": 4}
    assert {one["reason"]: one["count"] for one in found["by_reason"]} == {"BadDomain": 2, "InvalidRecipient": 1, "abuse": 1}
    assert "no_address" in run(folder, "stats").stdout


def test_rebuild(folder: Path) -> None:
    """From the journal and the old list, or from the journal alone; not while another process writes the list."""
    made = with_list(folder)
    with locked(list_of(made)):
        busy = run(folder, "rebuild")
    assert busy.exit_code == 1
    assert "Stop it first" in busy.stderr
    (segment,) = made.journal.directory.iterdir()
    segment.unlink()
    write_segment(made, 1, [feedback("new@example.com", day=DAYS)])
    kept = run(folder, "rebuild")
    assert kept.stdout.startswith("5 addresses on the list. The old list is ")
    assert run(folder, "rebuild", "--new").stdout.startswith("1 address on the list.")
    assert [one["address"] for one in objects(run(folder, "list", "--json"))] == ["new@example.com"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_rebuild_by_root(folder: Path) -> None:
    """Root would make files that the user of the sidecar cannot write."""
    os.chown(folder, 65534, 65534)
    result = run(folder, "rebuild")
    assert result.exit_code == 1
    assert "sudo -u nobody" in result.stderr


def test_backup(folder: Path) -> None:
    """A copy of the list, which can take its place; a file that cannot be written is an error of one sentence."""
    before = run(folder, "list", "--json").stdout
    assert run(folder, "backup", str(folder / "copy.db")).exit_code == 0
    list_of(with_list(folder)).database.write_bytes(b"x")
    for ending in ("-wal", "-shm"):
        Path(f"{folder / 'list.db'}{ending}").unlink(missing_ok=True)
    (folder / "copy.db").rename(folder / "list.db")
    assert run(folder, "list", "--json").stdout == before
    failed = run(folder, "backup", str(folder / "none/copy.db"))
    assert failed.exit_code == 1
    assert "none/copy.db cannot be written: " in failed.stderr


def test_simulate(folder: Path) -> None:
    """What the rules would have done, and what other rules change."""
    (found,) = objects(run(folder, "simulate", "--records", str(folder / "journal"), "--json"))
    assert found["reports"] == 4
    assert found["uncounted"] == {"no_address": 3, "no_rule": 1}
    assert [one["address"] for one in found["entries"]] == [one["address"] for one in objects(run(folder, "list", "--json"))]
    other = folder / "other.toml"
    other.write_text(f"[suppression]\n{RULES}")
    arguments = ("simulate", "--records", str(folder / "journal"), "--compare", str(other))
    (compared,) = objects(run(folder, *arguments, "--json"))
    reasons = {key: {one["address"]: one[key] and one[key]["reason"] for one in compared["changes"]} for key in ("old", "new")}
    changes = {address: (old, reasons["new"][address]) for address, old in reasons["old"].items()}
    assert changes == {
        "anna@example.com": ("abuse", "abuse"),
        "ben@example.com": ("InvalidRecipient", None),
        "carl@sub.example.com": ("BadDomain", None),
        "dora@example.com": (None, "SpamBlock"),
        LOOKALIKE: ("BadDomain", None),
    }
    text = run(folder, *arguments).stdout
    assert "5 addresses would change." in text
    assert "dora@example.com: not suppressed -> SpamBlock until removed" in text
    lines = text.splitlines()
    assert lines[0] == "Now: 4 reports counted; not counted: 3 no_address, 1 no_rule."
    assert lines[2].startswith(f"With {other}: 2 reports counted")
    assert (compared["reports"], len(compared["entries"])) == (2, 2)


def test_hashes_cannot_be_searched(folder: Path) -> None:
    with (folder / "sidecar.toml").open("a") as file:
        file.write('store = "hashed"\n')
    assert "was made with another `store`" in run(folder, "list").stderr
    assert run(folder, "rebuild", "--new").exit_code == 0
    assert "`sidecar suppression show ADDRESS` finds one" in run(folder, "list", "--domain", "example.com").stdout
    assert run(folder, "show", "anna@example.com").exit_code == 0


def test_without_a_list(tmp_path: Path) -> None:
    (tmp_path / "sidecar.toml").write_text('state_directory = "."\n')
    assert "The settings have no [suppression]." in run(tmp_path, "list").stderr
    (tmp_path / "sidecar.toml").write_text('state_directory = "."\n[suppression]\n')
    missing = run(tmp_path, "list")
    assert missing.exit_code == 1
    assert "does not exist yet" in missing.stderr
    (tmp_path / "suppression.db").write_bytes(b"no database" * 1000)
    assert "is damaged" in run(tmp_path, "list").stderr


def test_differences() -> None:
    one, two = (
        ShownEntry(address="a", reason=reason, source="reports", since=rfc3339(1), expires=None, reports=(), nodes=())
        for reason in ("abuse", "fraud")
    )
    found = [
        (change.address, change.old, change.new) for change in differences({"a": one, "b": one, "c": one}, {"b": two, "c": one})
    ]
    assert found == [("a", one, None), ("b", one, two)]
