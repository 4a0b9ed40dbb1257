"""`sidecar suppression add`, `remove` and `import`: each change is a record, and in force when the command ends."""

import json
import os
import pwd
import re
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.core.suppressed import RevisionGoneError
from sidecar.suppression.consumer import follow
from sidecar.suppression.locking import locked
from sidecar.suppression.opening import open_reader
from tests.suppression.journals import computed, stored, with_list, write_segment
from tests.suppression.records import BEGIN, feedback

DAYS = (time.time() - BEGIN) / 86400 - 5
A = "a@example.com"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sidecar.toml").write_text(
        'bounce_classifier = ["iana"]\nstate_directory = "."\n[suppression]\ndatabase = "list.db"\n'
    )
    write_segment(with_list(tmp_path), 0, [feedback(A, day=DAYS)])
    return tmp_path


def run(folder: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["suppression", name, "--config", str(folder / "sidecar.toml"), *arguments])


def reasons(folder: Path) -> dict[str, str]:
    """Return the list in the database, which is the one of the journal."""
    now, made = int(time.time()), with_list(folder)
    assert stored(made, now) == computed(made, now)
    return {address: entry.reason for address, entry in stored(made, now).items()}


def changes(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted((folder / "journal").iterdir()) for line in path.read_text().splitlines()]
    return [record for line in lines if (record := json.loads(line))["type"] == "Suppression"]


def test_add_and_remove(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "USER"):  # as in a cron job
        monkeypatch.delenv(name, raising=False)
    assert run(folder, "add", "--reason", "by phone", "B@Example.com", "c@example.com").stdout == "2 addresses added.\n"
    assert reasons(folder) == {A: "abuse", "b@example.com": "by phone", "c@example.com": "by phone"}
    assert run(folder, "remove", "--reason", "fixed", A, "c@example.com").stdout == "2 addresses removed.\n"
    assert reasons(folder) == {"b@example.com": "by phone"}
    assert run(folder, "add", "--reason", "short", "--expire", "2h", "d@example.com").exit_code == 0
    last = changes(folder)[-1]
    assert (last["recipient"], last["meta"]["action"], last["meta"]["reason"]) == ("d@example.com", "add", "short")
    assert abs(last["meta"]["expires"] - time.time() - 7200) < 600
    assert "added the address to the suppression list until 20" in last["meta"]["why"]
    assert last["meta"]["by"] == pwd.getpwuid(os.getuid()).pw_name
    assert len(changes(folder)) == 5
    shown = run(folder, "show", A)
    assert shown.exit_code == 1
    assert "remove  fixed" in shown.stdout
    again = run(folder, "remove", "--reason", "fixed", A)
    assert (again.stdout, again.stderr[:39]) == ("0 addresses removed.\n", f"{A} was not on the list. Earl")
    # A report after the removal counts.
    write_segment(with_list(folder), 7, [feedback(A, day=DAYS + 5.1)])
    run(folder, "add", "--reason", "x", "e@example.com")
    assert reasons(folder)[A] == "abuse"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "--reason", "x", "nothing"), "is no address"),
        (("add", "--reason", "\x1b[2J", A), "without control characters"),
        (("add", "--reason", " ", A), "Write one line"),
        (("add", "--reason", "x" * 201, A), "at most 200 characters"),
        (("add", "--reason", "x", "--expire", "soon", A), "is no age"),
        (("remove", A), "Missing option '--reason'"),
    ],
)
def test_wrong_usage(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(folder, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "\x1b" not in result.output
    assert not changes(folder)


def test_while_the_sidecar_runs(folder: Path) -> None:
    """The process of the list applies the change, and the command waits for that."""
    end = Event()
    made = with_list(folder)
    running = Thread(target=follow, args=(made, lambda seconds: end.wait(seconds) if seconds else end.is_set()))
    running.start()
    try:
        assert run(folder, "add", "--reason", "x", "b@example.com").exit_code == 0
        assert stored(made, int(time.time())).keys() == {A, "b@example.com"}
    finally:
        end.set()
        running.join()


LISTS = {
    "text": ("b@x.test\n# a comment\n\nC@x.test\n", {"b@x.test": "import", "c@x.test": "import"}),
    "own.csv": ("address,reason,source,since,expires\nb@x.test,abuse,reports,2026-01-01T00:00:00Z,\n", {"b@x.test": "abuse"}),
    "own.jsonl": ('{"address":"b@x.test","reason":"abuse","expires":null}\n', {"b@x.test": "abuse"}),
    "expired": ("address,expires\nb@x.test,2001-01-01T00:00:00Z\n", {}),
    "ses.csv": ("b@x.test,BOUNCE\nc@x.test,COMPLAINT\n", {"b@x.test": "BOUNCE", "c@x.test": "COMPLAINT"}),
    "ses.jsonl": ('{"emailAddress":"b@x.test","reason":"BOUNCE"}\n', {"b@x.test": "BOUNCE"}),
    "ses.json": (
        '{\n "SuppressedDestinationSummaries": [\n {"EmailAddress": "b@x.test", "Reason": "BOUNCE", "LastUpdateTime": 1}]}',
        {"b@x.test": "BOUNCE"},
    ),
    "mailgun.json": (
        '{"items":[{"address":"b@x.test","code":"550","error":"No such mailbox"},{"address":"c@x.test"}],"paging":{}}',
        {"b@x.test": "No such mailbox", "c@x.test": "import"},
    ),
    "mailgun.csv": ('address,code,error,created_at\nb@x.test,550,"No, none",x\n', {"b@x.test": "No, none"}),
    "mailgun-unsubscribes.csv": (
        "address,tags,created_at\nb@x.test,*,x\nc@x.test,news,x\nd@x.test,,x\n",
        {"b@x.test": "import", "d@x.test": "import"},
    ),
    "mailgun-unsubscribes.json": (
        '{"items":[{"address":"b@x.test","tags":["*","news"]},{"address":"c@x.test","tags":["news"]},{"address":"d@x.test"}]}',
        {"b@x.test": "import", "d@x.test": "import"},
    ),
    "pmta.csv": (
        "type,rcpt,dsnStatus,bounceCat\nb,b@x.test,5.1.1,bad-mailbox\nb,c@x.test,5.7.1,spam-related\nt,d@x.test,4.1.1,bad-mailbox\n",
        {"b@x.test": "bad-mailbox"},
    ),
    "semicolons.csv": ("Email;Reason\nb@x.test;no user, really\n", {"b@x.test": "no user, really"}),
    "formulas.csv": (
        "address,reason\n'=b@x.test,'+1\n''c@x.test,x\n'd@x.test,y\n",
        {"=b@x.test": "+1", "'c@x.test": "x", "'d@x.test": "y"},
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_import(folder: Path, name: str) -> None:
    """The lists of this program, PowerMTA, SES and Mailgun."""
    text, expected = LISTS[name]
    (folder / name).write_text(text)
    result = run(folder, "import", str(folder / name))
    omitted = {"mailgun-unsubscribes.csv": 1, "mailgun-unsubscribes.json": 1, "pmta.csv": 2}.get(name)
    assert result.exit_code == 0
    assert result.stderr.startswith(str(omitted or ""))
    assert result.stderr.count("\n") == bool(omitted)
    assert {address: reason for address, reason in reasons(folder).items() if address != A} == expected
    # The same list again changes nothing.
    before = len(changes(folder))
    again = run(folder, "import", str(folder / name))
    assert again.stdout.startswith("0 addresses added.") == bool(expected)
    assert len(changes(folder)) == before + (name == "expired")


@pytest.mark.parametrize("content", [b'{"a": [', b'{"items": 7}', b"[" * 100_000, b'{"x":1}\n' * 3, b"\xff\x00\x1b[2J\n" * 3])
def test_hostile_lists(folder: Path, content: bytes) -> None:
    """What is no list adds nothing, and is shown escaped."""
    (folder / "list").write_bytes(content)
    result = run(folder, "import", str(folder / "list"))
    assert "\x1b" not in result.output
    assert not changes(folder)
    assert result.exit_code == 1
    assert "cannot be imported" in result.stderr or "The file has no readable address." in result.stderr


def test_lines_without_an_address(folder: Path) -> None:
    """They are shown with their numbers in the file, comments and empty lines included; none is read as a reason."""
    (folder / "list").write_text("# mine\nb@x.test\n\nBob <bob@x.test>\nc@x.test, d@x.test\n" + "x\n" * 5)
    result = run(folder, "import", str(folder / "list"))
    assert (result.exit_code, result.stdout) == (0, "1 address added.\n")
    shown = ["line 4: Bob <bob@x.test>", "line 5: c@x.test, d@x.test", *(f"line {number}: x" for number in range(6, 9))]
    assert result.stderr.splitlines() == [
        "7 lines or items without a readable address:", *(f"  {one}" for one in shown), "  and 2 more"
    ]  # fmt: skip
    (folder / "list").write_text('[{"email": "e@x.test"}, {"email": "?"}]')
    assert "  item 2: {'email': '?'}" in run(folder, "import", str(folder / "list")).stderr


def test_a_large_import(folder: Path) -> None:
    """What was exported can be imported; long addresses and control characters are counted, and added nowhere."""
    lines = [f"u{number}@x.test" for number in range(3000)]
    (folder / "list").write_text("\n".join([*lines, "x" * 4096 + "@x.test", "u\x1b@x.test"]))
    result = run(folder, "import", "--reason", "moved", str(folder / "list"))
    assert result.stdout == "3,000 addresses added.\n"
    assert re.findall("line [0-9]+", result.stderr) == ["line 3001", "line 3002"]
    assert len(reasons(folder)) == 3001


def test_erase(folder: Path) -> None:
    """No file of the list has the address any more, others stay, and copies of the list have to be read again."""
    made = with_list(folder)
    own = made.suppression
    assert own is not None
    assert run(folder, "add", "--reason", "x", "B@x.test", "c@x.test").exit_code == 0
    assert run(folder, "remove", "--reason", "y", "b@x.test").exit_code == 0
    with open_reader(own) as store:
        revision = store.revision
    erased = run(folder, "erase", "B@x.test", "never@x.test")
    assert erased.stdout == "b@x.test: erased.\nnever@x.test: the list did not know it.\n"
    files = [path for path in folder.iterdir() if path.name.startswith("list.db")]
    assert b"b@x.test" not in b"".join(path.read_bytes() for path in files)
    assert reasons_in(folder) == {A: "abuse", "c@x.test": "x"}
    with open_reader(own) as store, pytest.raises(RevisionGoneError):
        store.changes(revision, int(time.time()), 1)
    with locked(own):
        busy = run(folder, "erase", A)
    assert (busy.exit_code, "Stop it first" in busy.stderr) == (1, True)


def reasons_in(folder: Path) -> dict[str, str]:
    """Return the list in the database."""
    return {address: entry.reason for address, entry in stored(with_list(folder), int(time.time())).items()}
