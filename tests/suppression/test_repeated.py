"""From the milter to the list: a true report that is sent again counts once, whatever is taken off it."""

from pathlib import Path

import pytest

from sidecar.core.proof.address import tagged
from tests.config.helpers import MAIN, settings_of
from tests.core.proof.making import DAY, MAIL, NOW, SENDER, bounce, dkim_field, ed_key, pem, secret, traced
from tests.daemon.milter.working import Worker
from tests.suppression.journals import computed, consume, stored

SETTINGS = """\
listener_domains = ["listener_domains.toml"]
bounce_classifier = ["iana"]
state_directory = "."
[journal]
directory = "journal"
[verify]
secret_files = ["secret"]
dkim_keys = "keys"
[suppression]
"""
JO = "jo@remote.example"
DAYS = (0, 0.2, 1, 1.2, 2)


def message(number: int, names: str = "from:to:message-id") -> str:
    """Return a signed message with a trace header."""
    text = MAIL.replace("week-17", f"week-{number}")
    return traced(dkim_field(text, "ed", h=names) + text, message_id=f"<week-{number}@sender.example>")


def without(name: str, text: str) -> str:
    """Return a message without a field of one line."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{name}:"))


@pytest.mark.parametrize(
    ("messages", "suppressed"),
    [
        ([message(1)] * 5, False),
        ([message(number) for number in range(5)], True),
        # DKIM does not cover the Message-ID: each proof has an id of its own.
        (
            [
                message(1, "from:to"),
                without("X-Sidecar-Trace", message(1, "from:to")),
                message(2),
                without("DKIM-Signature", message(1, "from:to")),
                message(1, "from:to") + "Changed.\n",
            ],
            False,
        ),
    ],
    ids=["the same", "different", "with less"],
)
def test_one_true_report(tmp_path: Path, messages: list[str], suppressed: bool) -> None:
    """Five reports on three days suppress an address only if they are about five messages."""
    (tmp_path / "secret").write_bytes(secret().key)
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ed._domainkey.sender.example").write_bytes(pem(ed_key()))
    domains = '["bounce.sender.example"]\nlog_oob = "LogThenDrop"\n'
    made = settings_of(tmp_path, {"listener_domains.toml": domains, MAIN: SETTINGS})
    recipients, now = (SENDER, tagged(SENDER, secret(), NOW)), float(NOW)
    worker = Worker(tmp_path, made, clock=lambda: now)
    try:
        for number, (day, one) in enumerate(zip(DAYS, messages, strict=True)):
            now = NOW + day * DAY
            with worker.mta() as mta:
                mta.envelope(b"<>", f"<{recipients[number % 2]}>".encode())
                reply, _ = mta.content(bounce(one, JO).replace(b"Status: 5.1.1", b"Status: 5.2.2").replace(b"\n", b"\r\n"))
                assert reply.code == "d"
    finally:
        worker.close()
    consume(made, now=int(NOW + 3 * DAY))
    found = stored(made, int(NOW + 3 * DAY))
    assert found == computed(made, int(NOW + 3 * DAY))
    assert [*found] == ([JO] if suppressed else [])
    if suppressed:
        assert (found[JO].reason, len(found[JO].reports)) == ("QuotaIssues", 5)
