"""What is sent: each scenario an envelope, a message, and the outcome that the policy gives it.

Owns the messages and the settings of the sidecar. Never sends anything.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RELAY_HOST, STRANGER = "127.0.0.1", "203.0.113.9"
SENDER = "news@send.example"
BOUNCES, COMPLAINTS, ELSEWHERE = "x7@bounce.example", "x7@fbl.example", "someone@elsewhere.example"


class Scenario(NamedTuple):
    """One kind of SMTP session. `outcome` is the word by which the rivals know it; `answer` how the last answer begins."""

    name: str
    outcome: str
    peer: str
    sender: str
    recipient: str
    message: bytes

    def script(self, content: Path, listener: str = "10.1.1.1 25") -> str:
        """Give it as the load generator reads it."""
        lines = (
            f"connect {self.peer} 4444 {listener}",
            "helo peer.example.net",
            f"mail <{self.sender}>",
            f"rcpt <{self.recipient}>",
            f"content {content}",
        )
        return "\n".join(lines) + "\n"


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

SCENARIOS = (
    Scenario("relay host, 3 kB", "accept", RELAY_HOST, SENDER, ELSEWHERE, PLAIN),
    Scenario("relay host, 1 MB", "accept", RELAY_HOST, SENDER, ELSEWHERE, message("long", "text/plain", text(1 << 20))),
    Scenario("stranger refused at RCPT", "refuse-rcpt", STRANGER, SENDER, ELSEWHERE, PLAIN),
    Scenario(
        "bounce, logged and dropped", "discard", STRANGER, "", BOUNCES, message("bounce", _report("delivery-status"), DSN)
    ),
    Scenario(
        "complaint, logged and relayed", "relay", STRANGER, SENDER, COMPLAINTS, message("fbl", _report("feedback-report"), ARF)
    ),
    Scenario("stranger's mail refused at the end", "refuse-headers", STRANGER, SENDER, BOUNCES, PLAIN),
)
MIXED = "all mixed"


def outcome_of(scenarios: Sequence[Scenario]) -> str:
    """Give the word for what the rivals must do so that all of these have their outcome."""
    return scenarios[0].outcome if len(scenarios) == 1 else "mixed"


def write_settings(
    folder: Path, *, domains: int, workers: int, relay_listener: str | None = None, engine: str = "direct"
) -> Path:
    """Write the sidecar's settings, with so many listener domains, and give their file.

    With a `relay_listener` peers are relay hosts by the listener they come to: behind one Postfix, all come from one address.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = {f"d{number}.customer{number % 1000}.example": {"log_oob": "LogThenDrop"} for number in range(domains - 2)}
    table = {"bounce.example": {"log_oob": "LogThenDrop"}, "fbl.example": {"log_arf": "LogThenRelay"}, **others}
    (folder / "listener_domains.json").write_text(json.dumps(table, indent=1))
    own = f'[listener."{relay_listener}"]\nrelay_hosts = ["{RELAY_HOST}"]\n' if relay_listener else ""
    hosts = "192.0.2.99" if relay_listener else RELAY_HOST
    config = folder / "sidecar.toml"
    config.write_text(
        f'relay_hosts = ["{hosts}"]\nlistener_domains = ["listener_domains.json"]\nstate_directory = "state"\n{own}'
        # All peers of a bench come from one address; in the field they are many.
        "[limits]\nreports_per_second = 1000000\nrejection_records_per_second = 1000000\nrecord_bytes_per_byte = 0\n"
        f'[milter]\nsocket = "unix:{folder}/sidecar.sock"\nsocket_mode = "0666"\nworkers = {workers}\n'
        f'engine = "{engine}"\n'
        '[log]\nlevel = "warning"\n'
    )
    return config
