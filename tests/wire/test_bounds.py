"""Bounds, floods and unparsable reports of a whole program, over the milter protocol."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD, TROUBLE, Mta, Reply
from tests.wire.program import Program
from tests.wire.test_program import OOB, ORDINARY

BURST = 10
TO = b"<sender@bounce.example>"
BROKEN = OOB.replace(b"Final-Recipient:", b"Somebody:")
LIMITS = """\
unparsable_reports = "quarantine"
[limits]
sessions = 20
header_size = 2000
reports_per_second = 1
rejection_records_per_second = 5
quarantine_size = 10485760
"""


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """A program with tight limits and one worker, so that all connections share them."""
    with Program(settings=LIMITS, milter="workers = 1") as program:
        yield program


def deliver(program: Program, message: bytes, *, peer: str) -> Reply:
    """Send one message on a connection of its own."""
    with program.mta() as mta:
        mta.begin(peer=peer)
        assert mta.envelope(b"<>", TO) == [CONTINUE]
        verdict, _ = mta.content(message)
        return verdict


def test_a_header_section_that_is_too_big(program: Program) -> None:
    reply = deliver(program, b"X-More: " + b"x" * 2000 + b"\r\n" + OOB, peer="203.0.113.1")
    assert reply == Reply("y", "552 5.3.4 the header section of a report may have 2000 bytes at most")
    assert "limits.header_size" in program.records()[-1]["meta"]["why"]


def test_reports_that_come_too_fast(program: Program) -> None:
    """A peer's burst counts on all its connections together. Then it gets 451; another peer does not."""
    verdicts = [deliver(program, OOB, peer="203.0.113.2") for _ in range(BURST + 5)]
    later = Reply("y", "451 4.7.1 too many reports from you at once; try again later")
    assert verdicts[:BURST] == [DISCARD] * BURST
    assert later in verdicts[BURST:]
    assert deliver(program, OOB, peer="203.0.113.3") == DISCARD


def test_connections_that_are_too_many(program: Program) -> None:
    """They get 451, others are not disturbed, and when one disconnects another one can connect."""
    with ExitStack() as stack:
        mtas = [stack.enter_context(program.mta()) for _ in range(21)]
        for mta in mtas:
            mta.begin(peer="203.0.113.4")
        answers = [mta.envelope(b"<>", TO) for mta in mtas]
        # Which one is too many is a matter of threads: no one waits for an answer at connect.
        late = Reply("y", "451 4.3.2 too many connections at the moment; try again later")
        assert sorted(answers) == sorted([[CONTINUE]] * 20 + [[late]])
        taken = [mta for mta, answer in zip(mtas, answers, strict=True) if answer == [CONTINUE]]
        taken[1].close()
        wait_until(lambda: _has_room(program), "there is room again")


def _has_room(program: Program) -> bool:
    with program.mta() as mta:
        mta.begin(peer="203.0.113.4")
        return mta.envelope(b"<>", TO) == [CONTINUE]


def test_a_flood_of_refusals(program: Program) -> None:
    """All are refused alike; so many a second have a record each, and the rest is counted, none forgotten."""
    peer, count = "203.0.113.5", 200
    refused = Reply("y", f"550 5.7.1 relaying not permitted for {peer}:4444")
    with program.mta() as mta:
        mta.begin(peer=peer)
        mta.mail(b"<s@x.example>")
        assert [mta.rcpt(b"<a@gmail.example>") for _ in range(count)] == [refused] * count
    wait_until(lambda: _counted(program, peer) == count, "every refusal is in the journal")
    records = [record for record in program.records() if record["peer_address"]["addr"] == peer]
    assert len(records) < count / 2
    assert {record["type"] for record in records} == {"Rejection"}


def _counted(program: Program, peer: str) -> int:
    """Count the rejections of a peer in the journal."""
    return sum(record["meta"].get("count", 1) for record in program.records() if record["peer_address"]["addr"] == peer)


def test_a_unparsable(program: Program) -> None:
    """It is answered 250 and dropped, it is on disk with its reason, and can be read again later."""
    assert deliver(program, BROKEN, peer="203.0.113.6") == DISCARD
    record = program.records()[-1]
    folder = program.directory / "state" / "quarantine"
    kept = folder / record["meta"]["quarantine"]
    assert json.loads(kept.with_suffix(".json").read_text()) == record
    assert kept.read_bytes().partition(b"\r\n\r\n")[2] == BROKEN.partition(b"\r\n\r\n")[2]
    result = CliRunner().invoke(main, ["parse", "--json", str(folder)])
    assert json.loads(result.stdout)["why"] == record["meta"]["why"].partition("; ")[0]


def test_a_quarantine_that_is_full() -> None:
    """Another network is answered 451, on record, and connections continue; nothing that is in it is lost."""
    settings = 'report_size_limit = 1048576\nunparsable_reports = "quarantine"\n[limits]\nquarantine_size = 1048576\n'
    with Program(settings=settings, milter="workers = 1") as program:
        peers = [f"203.0.113.{number}" for number in range(3)]
        verdicts = [deliver(program, BROKEN + b"x" * 500_000, peer=peer) for peer in peers]
        full = Reply("y", "451 4.3.1 no room at the moment to keep this report; try again later")
        assert verdicts == [DISCARD, DISCARD, full]
        assert len(_messages(program)) == 2
        assert [record["type"] for record in program.records()] == ["Reception", "Reception", "Rejection"]
        assert program.says("the quarantine is full")
        assert deliver(program, OOB, peer=peers[2]) == DISCARD


def test_a_network_makes_room_in_its_own_share() -> None:
    """A flood of unparsable reports removes its own oldest ones, and the first of another network is still kept."""
    settings = 'report_size_limit = 1048576\nunparsable_reports = "quarantine"\n[limits]\nquarantine_size = 1048576\n'
    with Program(settings=settings, milter="workers = 1") as program:
        verdicts = [deliver(program, BROKEN + b"x" * 100_000, peer="2001:db8::9") for _ in range(6)]
        verdicts.append(deliver(program, BROKEN + b"x" * 500_000, peer="203.0.113.2"))
        assert set(verdicts) == {DISCARD}
        kept = {path.name for path in _messages(program)}
        assert kept == {record["meta"]["quarantine"] for record in program.records()[-3:]}
        # Once after each removal of old messages, of which the first can come between these messages.
        told = [line["network"] for line in program.lines() if line["event"].startswith("one network fills its share")]
        assert set(told) == {"2001:db8::/64"}


def _messages(program: Program) -> list[Path]:
    return list((program.directory / "state" / "quarantine").glob("*.eml"))


def test_memory_for_reports_that_are_sent_slowly() -> None:
    """When they have all of it the next gets 451. When one of them disconnects it is free again."""
    settings = "report_size_limit = 1000000\n[limits]\nreport_memory = 1000000\n"
    with Program(settings=settings, milter="workers = 1") as program:
        with program.mta() as slow:
            _begin_report(slow)
            for _ in range(16):
                slow.body(b"x" * 60_000)
            full = Reply("y", "451 4.3.1 too many reports at the moment; try again later")
            wait_until(lambda: deliver(program, OOB + b"x" * 60_000, peer="203.0.113.7") == full, "all of it is taken")
            assert "limits.report_memory" in program.records()[-1]["meta"]["why"]
        wait_until(lambda: deliver(program, OOB + b"x" * 60_000, peer="203.0.113.7") == DISCARD, "the memory is free again")


def _begin_report(mta: Mta) -> None:
    mta.begin(peer="203.0.113.8")
    assert mta.envelope(b"<>", TO) == [CONTINUE]
    mta.data()
    mta.header(b"Content-Type", b" multipart/report; boundary=limit")
    assert mta.end_of_headers() == CONTINUE


def test_a_connection_that_ends_in_trouble_gives_its_place_back() -> None:
    """However it ends: here the journal cannot be written, and the connection is answered 451 from there on."""
    with Program(settings="[limits]\nsessions = 1\n", milter="workers = 1") as program:
        journal = program.directory / "state" / "journal"
        shutil.rmtree(journal)
        journal.write_text("in the way")
        with program.mta() as mta:
            mta.begin()
            assert mta.envelope(b"<>", b"<a@gmail.example>") == [TROUBLE]
        journal.unlink()
        wait_until(lambda: _has_room(program), "there is room again")


def test_a_worker_that_ends_leaves_no_refusal_uncounted() -> None:
    """What is counted when the program stops is in the journal when it has stopped."""
    with Program(settings="[limits]\nrejection_records_per_second = 1\n") as program:
        with program.mta() as mta:
            mta.begin(peer="203.0.113.9")
            mta.mail(b"<s@x.example>")
            for _ in range(30):
                mta.rcpt(b"<a@gmail.example>")
        assert program.stop() == 0
        assert _counted(program, "203.0.113.9") == 30
        assert len(program.records()) < 10


def test_ordinary_mail_knows_none_of_this(program: Program) -> None:
    """A relay host's message is accepted, whatever its size and its headers."""
    with program.mta() as mta:
        mta.begin(peer="192.0.2.7")
        mta.envelope(b"<s@x.example>", b"<a@gmail.example>")
        assert mta.content(b"X-More: " + b"x" * 3000 + b"\r\n" + ORDINARY)[0] == Reply("a")
