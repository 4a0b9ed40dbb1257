"""Messages of all kinds of stores through the policy: outcomes, reasons, counts and lines."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sidecar.commands.replay.replayer import NAMED_LIMIT, REASONS_LIMIT, JudgedBatch, Replayer, ReplayTally, unreadable
from sidecar.commands.replay.stores import Piece, Stored, Task, messages, tasks
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question, encode_explanation
from sidecar.core.settings.values import LimitSettings
from tests import DATA
from tests.building import entry, settings

REPORTS = DATA / "reports"
OOB = (REPORTS / "oob-postfix.eml").read_bytes()
ARF = (REPORTS / "arf-full.eml").read_bytes()
NONE = b"Subject: x\nContent-Type: text/plain\n\nBuy now\n"
BROKEN = b"Content-Type: multipart/report; boundary=b\n\n--b\n\nnothing\n"
DOMAINS = [
    entry("bounce.example", log_oob="LogThenDrop"),
    entry("fbl.example", log_arf="LogThenRelay"),
    entry("open.example", relay_to=True),
    entry("closed.example", relay_to=False),
]


def replayer(peer: str = "192.0.2.1", *, given: dict[str, Any] | None = None, **more: Any) -> Replayer:
    """Make a replayer whose settings have the domains above."""
    made = settings(DOMAINS if "domains" not in more else more.pop("domains"), **more)
    return Replayer(evaluator=Evaluator(made), peer=peer, with_lines=True, **(given or {}))


def stored(message: bytes, *recipients: str, sender: str = "") -> bytes:
    """Put on a message what a delivery would."""
    return f"Return-Path: <{sender}>\nEnvelope-To: {', '.join(recipients)}\n".encode() + message


def batches_of(one: Replayer, task: Task) -> list[JudgedBatch]:
    """Replay a task to its end."""
    batches = [one.replay(task)]
    while batches[-1].rest:
        batches.append(one.replay(batches[-1].rest))
    return batches


def lines(one: Replayer, *paths: Path) -> list[dict[str, Any]]:
    """Return what --json prints."""
    batches = [batch for task in tasks(map(str, paths)) for batch in batches_of(one, task)]
    return [json.loads(line) for line in b"".join(batch.lines for batch in batches).splitlines()]


TAKEN = "bounce.example accepts bounce reports from any host, logs them and drops them"
COMPLAINT = "fbl.example accepts feedback reports from any host, logs them and relays them"
OPEN = "open.example accepts all mail from any host"
NO_PART = "not a report, because no part directly below its multipart/report is message/delivery-status"
AT_CONNECT = (
    "192.0.2.1 is not in relay_hosts (sidecar.toml:1 relay_hosts); "
    "no listener domain accepts mail from external hosts on this listener"
)
LITTLE_MEMORY = LimitSettings(report_memory=500)


@pytest.mark.parametrize(
    ("message", "to", "more", "outcome", "reason"),
    [
        (OOB, ["a@bounce.example"], {}, "logged_and_dropped", TAKEN),
        (ARF, ["a@fbl.example"], {}, "logged_and_relayed", COMPLAINT),
        (NONE, ["a@open.example"], {}, "relayed", OPEN),
        (NONE, ["a@x.example"], {"peer": "::1"}, "relayed", "::1 is a relay host: ::1 is in relay_hosts"),
        (NONE, ["a@open.example", "b@x.example"], {}, "relayed, partly", OPEN),
        (NONE, ["a@bounce.example", "b@open.example"], {}, "relayed, partly", OPEN),
        (OOB, ["b@x.example", "a@bounce.example"], {}, "logged_and_dropped", TAKEN),
        (
            NONE,
            ["a@bounce.example"],
            {},
            "rejected_at_end",
            "not a report, because its Content-Type is 'text/plain', not multipart/report",
        ),
        (ARF, ["a@bounce.example"], {}, "rejected_at_end", "a feedback report: 'abuse'"),
        (BROKEN, ["a@bounce.example"], {}, "rejected_at_end", NO_PART),
        (BROKEN, ["a@bounce.example"], {"unparsable_reports": "quarantine"}, "quarantined", NO_PART),
        (OOB, ["a@x.example"], {}, "rejected_at_rcpt", "no listener domain matches x.example"),
        (
            OOB,
            ["a@closed.example"],
            {},
            "rejected_at_rcpt",
            '"closed.example" accepts no mail for closed.example from external hosts',
        ),
        (
            OOB,
            ["a@\u202e.example"],
            {},
            "rejected_at_rcpt",
            "the recipient's address has characters or a length that no address has",
        ),
        (NONE, ["a@x.example"], {"domains": []}, "rejected_at_connect", AT_CONNECT),
        (
            *(OOB, ["a@bounce.example"], {"report_size_limit": 500}, "rejected_at_end"),
            "the message claims to be a report and has more bytes than report_size_limit, 500",
        ),
        (
            *(OOB, ["a@bounce.example"], {"limits": LITTLE_MEMORY}, "tempfailed"),
            "the messages of this worker have as many bytes as limits.report_memory allows, 500",
        ),
    ],
)
def test_outcomes(tmp_path: Path, message: bytes, to: list[str], more: dict[str, Any], outcome: str, reason: str) -> None:
    """Each message has the outcome that the session gives it, and the rule or the reason that decided."""
    path = tmp_path / "x.eml"
    path.write_bytes(stored(message, *to))
    (line,) = lines(replayer(**more), path)
    disposition = f"{line['disposition']}, partly" if line["partly"] else line["disposition"]
    assert (disposition, line["reason"]["text"]) == (outcome, reason)


def test_it_is_the_same_explanation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What replay says of a message is what explain says, word for word, with the envelope before it."""
    path = tmp_path / "x.eml"
    path.write_bytes(stored(OOB, "a@bounce.example", "b@x.example"))
    monkeypatch.setattr("time.time", lambda: 1.0)
    monkeypatch.setattr("sidecar.commands.replay.replayer.uuid4", partial(UUID, int=7))
    question = Question(peer="192.0.2.1", sender="", to=["a@bounce.example", "b@x.example"])
    asked = Evaluator(settings(DOMAINS)).explain(question, path.read_bytes(), clock=lambda: 1.0, new_id=partial(UUID, int=7))
    (line,) = lines(replayer(), path)
    explanation = json.loads(encode_explanation(asked))
    assert {key: line[key] for key in explanation} == explanation
    assert list(line) == [
        *("file", "offset", "size", "from", "to", "guessed", "disposition", "partly", "not_judged", "reason"),
        *("connect", "recipients", "message"),
    ]
    assert line["reason"] == explanation["recipients"][0]["because"][0]
    assert (line["file"], line["offset"], line["size"]) == (str(path), None, path.stat().st_size)


def test_mbox(tmp_path: Path) -> None:
    """An mbox has its messages with their places; its line has the sender; a message in its own file is no mbox."""
    mark = b"From s@open.example  Sun Nov 22 19:34:47 2026\n"
    first, second = b"Envelope-To: a@open.example\n\n>From x\n", b"Subject: none\n\n"
    (tmp_path / "mbox").write_bytes(mark + first + b"\n" + mark + second + b"\n")
    one, two = lines(replayer(), tmp_path)
    assert (one["offset"], one["from"], one["disposition"]) == (0, "s@open.example", "relayed")
    assert (two["offset"], two["disposition"], two["not_judged"]) == (len(mark + first) + 1, None, "no_envelope")
    assert two["reason"]["text"] == "no header field has its recipient; name one with --to"
    assert two["connect"] is two["recipients"] is two["message"] is None
    tally = replayer().replay((Piece(path=str(tmp_path / "mbox")),)).tally
    assert (tally.messages, tally.size) == (2, (tmp_path / "mbox").stat().st_size)


def test_a_given_envelope(tmp_path: Path) -> None:
    """With sender and recipients given, every message has them, and the listener and the identity that were given."""
    domains = [entry("send.example", relay_from_authz=["daniel"], listener="10.1.1.1:25")]
    given_all: dict[str, Any] = {
        "sender": "s@send.example",
        "recipients": ("a@x.example",),
        "auth": "daniel",
        "listener": "10.1.1.1:25",
    }
    (tmp_path / "x.eml").write_bytes(stored(NONE, "b@y.example"))
    (line,) = lines(replayer(domains=domains, given=given_all), tmp_path)
    assert (line["from"], line["to"], line["disposition"]) == ("s@send.example", ["a@x.example"], "relayed")


def test_big_messages(tmp_path: Path) -> None:
    """Of a message above the limit no more is read than it takes to judge it, and it is judged as the milter would."""
    small: dict[str, Any] = {"report_size_limit": 2000, "limits": LimitSettings(header_size=1000)}
    one = replayer(**small)
    (tmp_path / "oob").write_bytes(stored(OOB, "a@bounce.example") + b"x" * 100_000)
    (tmp_path / "text").write_bytes(stored(NONE, "a@open.example") + b"x" * 100_000)
    found = {Path(line["file"]).name: line for line in lines(one, tmp_path)}
    assert found["oob"]["message"]["reply"] == "552 5.3.4 a report may have 2000 bytes at most"
    assert found["text"]["disposition"] == "relayed"
    assert found["text"]["size"] > 100_000
    (read,) = messages(Piece(path=str(tmp_path / "text")), one.limit)
    assert len(read.content) == one.limit == 3001


def test_many_reports_of_one_peer(tmp_path: Path) -> None:
    """A store is no flood: the rate at which a peer may bring reports is not counted here."""
    mark = b"From MAILER-DAEMON  Sun Nov 22 19:34:47 2026\n"
    (tmp_path / "mbox").write_bytes((mark + stored(OOB, "a@bounce.example") + b"\n") * 50)
    limited = replayer(limits=LimitSettings(reports_per_second=1))
    assert {line["disposition"] for line in lines(limited, tmp_path)} == {"logged_and_dropped"}


def test_a_log_is_not_mail(tmp_path: Path) -> None:
    """A node's log folder in place of mail is an error for each file, and no message."""
    (tmp_path / "plain").write_bytes(b'{"type":"Reception","recipient":"a@open.example"}\n')
    (tmp_path / "packed").write_bytes(zstandard.compress(b'{"type":"Reception"}\n'))
    for line in lines(replayer(given={"recipients": ("a@open.example",)}), tmp_path / "plain", tmp_path / "packed"):
        assert line["not_judged"] == "unreadable"
        assert line["reason"]["text"] == "it is a log, not mail; `sidecar explain --record` reads records"


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted with its reason, the first are named, and the rest is read."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a\udcff").write_bytes(stored(NONE, "a@open.example"))
    named = [tmp_path / "fifo", tmp_path / "missing", tmp_path / "a\udcff"]
    found = lines(replayer(), *named, *[tmp_path / str(number) for number in range(NAMED_LIMIT)])
    assert [line["not_judged"] or line["disposition"] for line in found[:3]] == ["unreadable", "unreadable", "relayed"]
    assert [line["reason"]["text"] for line in found[:2]] == ["it is neither a file nor a folder", "No such file or directory"]
    assert found[2]["file"].endswith("a\ufffd")
    tally = ReplayTally()
    for task in tasks([str(tmp_path / str(number)) for number in range(NAMED_LIMIT + 1)]):
        tally.merge(replayer().replay(task).tally)
    assert (tally.messages, tally.count("unreadable"), len(tally.unreadable)) == (0, NAMED_LIMIT + 1, NAMED_LIMIT)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[31m")

    monkeypatch.setattr(Evaluator, "explain", fail)
    (line,) = lines(replayer(), tmp_path / "a\udcff")
    assert line["not_judged"] == "unreadable"
    assert "which is an error of the program: RuntimeError('\\x1b[31m')" in line["reason"]["text"]


def test_lines_come_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with too many lines is interrupted, and the rest of it begins with the next message, also inside an mbox."""
    mark = b"From MAILER-DAEMON  Sun Nov 22 19:34:47 2026\n"
    (tmp_path / "x.eml").write_bytes(stored(OOB, "a@bounce.example"))
    (tmp_path / "mbox").write_bytes(b"".join(mark + stored(OOB, f"{n}@bounce.example") + b"\n" for n in range(6)))
    task = (Piece(path=str(tmp_path / "x.eml")), Piece(path=str(tmp_path / "mbox")), Piece(path=str(tmp_path / "x.eml")))
    (whole,) = batches_of(replayer(), task)
    monkeypatch.setattr("sidecar.commands.replay.replayer._LINES_LIMIT", 6_000)
    batches = batches_of(replayer(), task)
    assert len(batches) > 2
    tally = ReplayTally()
    for batch in batches:
        tally.merge(batch.tally)
    assert tally == whole.tally
    ends = [
        [(line["file"], line["offset"]) for line in map(json.loads, lines.splitlines())]
        for lines in (whole.lines, b"".join(batch.lines for batch in batches))
    ]
    assert ends[0] == ends[1]
    assert len(ends[0]) == 8


@hypothesis_settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from(["a.example", "b.example", "c.example"]), min_size=1, max_size=12), st.integers(0, 12))
def test_counts_add_up(domains: list[str], cut: int) -> None:
    """Counts of two parts put together are the counts of the whole; one rule is one reason, whatever domain it met."""
    one = replayer(domains=[entry("*.example", log_oob="LogThenDrop"), entry("x", relay_to=True)])
    judged = [one.judge("f", Stored(size=1, content=stored(OOB, f"a@{domain}"))) for domain in domains]
    judged += [one.judge("f", Stored(size=1, content=stored(OOB, f"a@{domain}.net"))) for domain in domains]
    whole, first, second = ReplayTally(), ReplayTally(), ReplayTally()
    for number, message in enumerate(judged):
        whole.add(message)
        (first if number < cut else second).add(message)
    first.merge(second)
    assert first == whole
    assert [group.count for group in whole.groups.values()] == [len(domains)] * 2
    assert {group.varied for group in whole.groups.values()} == {len(set(domains)) > 1}


def test_reasons_are_bounded() -> None:
    """However many reasons there are, what is kept of them stays small, and no message is left out of the counts."""
    tally = ReplayTally()
    for number in range(REASONS_LIMIT + 50):
        tally.add(unreadable("x", f"reason {number}"))
    assert len(tally.groups) == REASONS_LIMIT + 1
    assert tally.count("unreadable") == REASONS_LIMIT + 50
