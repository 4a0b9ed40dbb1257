"""The loop with real sessions and a real journal: what waits for the disk, or takes long, holds up no other connection."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.session import Session
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings, LimitSettings
from sidecar.daemon.milter.adapter import LARGE_REPORT
from sidecar.journal.write import Quarantine
from tests.building import entry, settings
from tests.daemon.milter.working import Worker
from tests.journal.conftest import texts
from tests.mta.processes import wait_until
from tests.wire.client import ACCEPT, CONTINUE, DISCARD, TROUBLE, Mta

BOUNCES, ELSEWHERE = b"<b@bounce.example>", b"<x@elsewhere.example>"
DOMAINS = [entry("bounce.example", log_oob="LogThenDrop")]
HEAD = b"MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n"
STATUS = b"Reporting-MTA: dns; mx\r\n\r\nFinal-Recipient: rfc822; a@b\r\nAction: failed\r\nStatus: 5.0.0\r\n\r\n"
BOUNCE = HEAD + b"Content-Type: message/delivery-status\r\n\r\n" + STATUS + b"--b--\r\n"
LARGE = BOUNCE.replace(b"--b--", b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + b"x" * 70 * 1024 + b"\r\n--b--")
UNPARSABLE = HEAD + b"Content-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"
LARGE_UNPARSABLE = UNPARSABLE.replace(b"hello", b"x\r\n" * LARGE_REPORT)


def its(folder: Path, **journal: Any) -> Settings:
    """Return the settings of a worker."""
    limits = LimitSettings(rejection_records_per_second=1000)
    made = settings(DOMAINS, unparsable_reports="quarantine", limits=limits)
    return replace(made, journal=JournalSettings(directory=folder / "journal", **journal))


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    one = Worker(tmp_path, its(tmp_path))
    monkeypatch.setattr(os, "fsync", one.fsync)
    yield one
    one.close()


@pytest.fixture
def rolling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker whose segments hold one record each."""
    one = Worker(tmp_path, its(tmp_path, segment_size=1))
    monkeypatch.setattr(os, "fsync", one.fsync)
    yield one
    one.close()


def begin_report(mta: Mta, message: bytes = BOUNCE) -> None:
    """Send a report up to its end, and do not wait for the answer."""
    mta.envelope(b"<>", BOUNCES)
    mta.data()
    head, _, body = message.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        mta.header(*line.split(b":"))
    assert mta.end_of_headers() == CONTINUE
    for start in range(0, len(body), 65535):
        mta.body(body[start : start + 65535])
    mta.send(b"E")


def test_a_rejection_does_not_wait_for_the_fsync_of_a_report(worker: Worker) -> None:
    """It is recorded without one, and answered at once."""
    with worker.mta() as reporter, worker.mta() as other:
        assert other.envelope(b"<a@b>", ELSEWHERE)[0].code == "y"
        worker.gate.clear()
        worker.fsyncs = threading.Semaphore(0)
        begin_report(reporter)
        assert worker.fsyncs.acquire(timeout=10)
        assert other.rcpt(ELSEWHERE).code == "y"
        assert len(texts(worker.folder / "journal")) == 4
        worker.gate.set()
        assert reporter.reply() == DISCARD


def test_rejections_that_need_a_new_segment_hold_up_no_other_connection(rolling: Worker) -> None:
    """The name of a segment is on disk before it is used. Only the rejections that are recorded there wait for that."""
    with rolling.mta() as first, rolling.mta() as second, rolling.mta() as other:
        for mta in (first, second):
            mta.mail(b"<a@b>")
        rolling.gate.clear()
        first.send(b"R", ELSEWHERE + b"\0")
        assert rolling.fsyncs.acquire(timeout=10)
        second.send(b"R", ELSEWHERE + b"\0")
        assert other.envelope(b"<>", BOUNCES) == [CONTINUE]
        with rolling.mta() as third:
            assert third.envelope(b"<>", BOUNCES) == [CONTINUE]
        rolling.gate.set()
        assert [mta.reply().code for mta in (first, second)] == ["y", "y"]
        assert first.rcpt(ELSEWHERE).code == "y"


@pytest.mark.parametrize("message", [LARGE, LARGE_UNPARSABLE, UNPARSABLE], ids=["large", "large unparsable", "unparsable"])
def test_slow_work_is_not_done_by_the_loop(worker: Worker, monkeypatch: pytest.MonkeyPatch, message: bytes) -> None:
    """Reading a large report, and putting a message into the quarantine: other connections are served meanwhile."""
    entered, held = threading.Event(), threading.Event()
    whole_handle, whole_keep = Session.handle, Quarantine.keep

    def hold() -> None:
        entered.set()
        assert held.wait(20)

    def handle(self: Session, event: object) -> object:
        if self.report_size >= LARGE_REPORT and type(event).__name__ == "EndOfMessage":
            hold()
        return whole_handle(self, event)  # type: ignore[arg-type]  # as it came

    def keep(self: Quarantine, name: str, *, message: bytes, record: bytes) -> None:
        hold()
        whole_keep(self, name, message=message, record=record)

    monkeypatch.setattr(Session, "handle", handle)
    monkeypatch.setattr(Quarantine, "keep", keep)
    with worker.mta() as reporter, worker.mta() as other:
        begin_report(reporter, message)
        assert entered.wait(10)
        assert other.envelope(b"<a@b>", ELSEWHERE)[0].code == "y"
        assert other.rcpt(BOUNCES) == CONTINUE
        held.set()
        assert reporter.reply() == DISCARD
        reporter.quit()
    wait_until(lambda: worker.loop.open_connections() == 0, "no connection is left")
    types = [json.loads(text)["type"] for text in texts(worker.folder / "journal")]
    assert types == ["Rejection", "Reception", *(["OOB"] if message == LARGE else [])]
    assert len(list((worker.folder / "quarantine").glob("*.eml"))) == (message != LARGE)


@pytest.mark.parametrize("message", [BOUNCE, LARGE, UNPARSABLE], ids=["small", "large", "unparsable"])
def test_an_error_of_the_disk_is_a_451_whoever_was_waiting(worker: Worker, message: bytes) -> None:
    """The next connection is served, and the same report is accepted there when the disk has recovered."""
    (worker.folder / "journal").write_text("in the way")
    with worker.mta() as reporter:
        begin_report(reporter, message)
        assert reporter.reply() == TROUBLE
        assert reporter.rcpt(BOUNCES) == TROUBLE
    (worker.folder / "journal").unlink()
    with worker.mta() as reporter:
        begin_report(reporter, message)
        assert reporter.reply() == DISCARD


def test_a_relay_hosts_mail_is_recorded_and_accepted(worker: Worker) -> None:
    """Without an fsync of its record."""
    with worker.mta(peer="127.0.0.1") as host:
        assert host.envelope(b"<a@b>", ELSEWHERE) == [CONTINUE]
        assert host.data() == ACCEPT
        worker.gate.clear()
        assert host.envelope(b"<a@b>", ELSEWHERE) == [CONTINUE]
        assert host.data() == ACCEPT
    assert len(texts(worker.folder / "journal")) == 2
