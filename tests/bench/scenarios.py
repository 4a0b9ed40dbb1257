"""The mail of the benchmark: envelopes, messages, the outcome that the policy gives them, and the sidecar's settings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SENDER = "news@send.example"
"""The envelope sender of a relay host's mail: by it, the rivals that do nothing know a relay host."""
EXTERNAL_SENDER = "someone@external.example"
BOUNCES, COMPLAINTS, ELSEWHERE = "x7@bounce.example", "x7@fbl.example", "someone@elsewhere.example"


class Scenario(NamedTuple):
    """One kind of SMTP session.

    Each rival that does nothing gives the `outcome` of this name. `burst` is the number of messages that take some 0.4 s.
    """

    name: str
    outcome: str
    sender: str
    recipient: str
    message: bytes
    burst: int = 300

    @property
    def relay_host(self) -> bool:
        """Return True if the peer is a relay host."""
        return self.outcome == "accept"


def message(subject: str, content_type: str, body: str) -> bytes:
    """Write a message with the header of usual mail."""
    header = (
        "Received: from app.send.example (app.send.example [192.0.2.7])\n"
        "\tby mx.example with ESMTPS id 4FAKE; Thu, 02 Jul 2026 18:55:38 +0000\n"
        f"From: News <{SENDER}>\nTo: someone@elsewhere.example\nSubject: {subject}\n"
        "Date: Thu, 02 Jul 2026 18:55:38 +0000\nMessage-ID: <1.2.3@send.example>\nMIME-Version: 1.0\n"
        f"Content-Type: {content_type}\n"
    )
    return f"{header}\n{body}".replace("\n", "\r\n").encode()


def text(size: int) -> str:
    """Write about `size` bytes of plain text."""
    line = "All work and no play makes a dull letter, and yet here it is once more.\n"
    return line * (size // len(line))


def multipart(first: str, body: str, original: int) -> str:
    """Write the three parts of a report; the returned message is filled up to `original` bytes."""
    returned = f"From: {SENDER}\nTo: {ELSEWHERE}\nSubject: hello\nMessage-ID: <9.9@send.example>\n\n{text(original)}"
    parts = ("Content-Type: text/plain\n\nThis is a report.\n", f"Content-Type: {first}\n\n{body}\n")
    returned_part = f"Content-Type: message/rfc822\n\n{returned}\n"
    return "".join(f"--=_b\n{part}" for part in (*parts, returned_part)) + "--=_b--\n"


DSN = multipart(
    "message/delivery-status",
    "Reporting-MTA: dns; mx.elsewhere.example\nArrival-Date: Thu, 02 Jul 2026 18:55:38 +0000\n\n"
    f"Final-Recipient: rfc822; {ELSEWHERE}\nAction: failed\nStatus: 5.1.1\n"
    "Diagnostic-Code: smtp; 550 5.1.1 <someone@elsewhere.example>: no such user here\n",
    1800,
)
ARF = multipart(
    "message/feedback-report",
    "Feedback-Type: abuse\nUser-Agent: Example-FBL/1.0\nVersion: 1\nArrival-Date: Thu, 02 Jul 2026 18:55:38 +0000\n"
    f"Source-IP: 192.0.2.7\nOriginal-Mail-From: {SENDER}\nOriginal-Rcpt-To: {ELSEWHERE}\n",
    1800,
)


def _report(kind: str) -> str:
    return f'multipart/report; report-type={kind}; boundary="=_b"'


PLAIN = message("hello", "text/plain; charset=utf-8", text(2600))
LONG = message("long", "text/plain", text(1 << 20))

RELAY = Scenario("a relay host's mail, 3 kB", "accept", SENDER, ELSEWHERE, PLAIN)
RELAY_LONG = Scenario("a relay host's mail, 1 MB", "accept", SENDER, ELSEWHERE, LONG, burst=60)
REJECTED_RCPT = Scenario("an external host rejected at RCPT", "reject-rcpt", EXTERNAL_SENDER, ELSEWHERE, PLAIN, burst=600)
BOUNCE = Scenario("a bounce, on disk and dropped", "discard", "", BOUNCES, message("bounce", _report("delivery-status"), DSN))
COMPLAINT = Scenario(
    "a complaint, on disk and relayed", "relay", EXTERNAL_SENDER, COMPLAINTS, message("fbl", _report("feedback-report"), ARF)
)
REJECTED_LATE = Scenario("an external host's mail rejected at the end", "reject-headers", EXTERNAL_SENDER, BOUNCES, PLAIN)

ROWS: dict[str, Sequence[Scenario]] = {
    scenario.name: (scenario,) for scenario in (RELAY, RELAY_LONG, REJECTED_RCPT, BOUNCE, COMPLAINT, REJECTED_LATE)
} | {"all mixed": (RELAY, REJECTED_RCPT, BOUNCE, COMPLAINT, REJECTED_LATE)}
"""The rows of the table: which scenarios run at the same time."""


def outcome_of(scenarios: Sequence[Scenario]) -> str:
    """Return the outcome that the rivals have to give for all of these."""
    return scenarios[0].outcome if len(scenarios) == 1 else "mixed"


def write_settings(
    folder: Path, *, domains: int = 10, workers: int = 2, relay_listener: str | None = None, engine: str = "direct"
) -> Path:
    """Write the sidecar's settings with this number of listener domains, and return their file.

    All mail of the benchmark is from 127.0.0.1. With a `relay_listener` only the peers of that listener are relay hosts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = {f"d{number}.customer{number % 1000}.example": {"log_oob": "LogThenDrop"} for number in range(domains - 2)}
    table = {"bounce.example": {"log_oob": "LogThenDrop"}, "fbl.example": {"log_arf": "LogThenRelay"}, **others}
    (folder / "listener_domains.json").write_text(json.dumps(table, indent=1))
    listener = f'[listener."{relay_listener}"]\nrelay_hosts = ["127.0.0.1"]\n' if relay_listener else ""
    config = folder / "sidecar.toml"
    config.write_text(
        f'relay_hosts = ["{"192.0.2.99" if relay_listener else "127.0.0.1"}"]\n'
        f'listener_domains = ["listener_domains.json"]\nstate_directory = "state"\n{listener}'
        # All mail of the benchmark is from one address; production mail is from many.
        "[limits]\nreports_per_second = 1000000\nrejection_records_per_second = 1000000\nrecord_bytes_per_byte = 0\n"
        f'[milter]\nsocket = "unix:{folder}/sidecar.sock"\nsocket_mode = "0666"\nworkers = {workers}\n'
        f'engine = "{engine}"\n'
        '[log]\nlevel = "warning"\n'
    )
    return config
