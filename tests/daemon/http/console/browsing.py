"""A running sidecar with a console, traffic in its journal, and Debian's Chromium to open its pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE
from tests.wire.program import Program
from tests.wire.test_program import OOB

CHROMIUM: Final = shutil.which("chromium")
READER, OPERATOR = "reader-token-of-the-tests-0123456789", "operator-token-of-the-tests-0123456789"
DOMAINS: Final = """\
["relay.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenRelay"
["*.wild.example"]
log_oob = "LogThenRelay"
["deep.er.wild.example"]
log_oob = "LogThenDrop"
["*"]
relay_to = false
"""
ARF: Final = b"""\
From: fbl@isp.example
To: fbl@fbl.example
Subject: complaint
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="limit"

--limit
Content-Type: text/plain

A complaint.
--limit
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: Example/1.0
Version: 1
Original-Rcpt-To: <user@isp.example>
Reported-Domain: news.example

--limit
Content-Type: message/rfc822

From: news@news.example
To: user@isp.example
Subject: Our news
Message-ID: <1@news.example>

Hello.
--limit--
""".replace(b"\n", b"\r\n")
HOSTILE: Final = (
    "<script>document.title='taken'</script>@x.example",
    "\u202e\u05d0evil@x.example",
    "\x1b[31mred@x.example",
    "x" * 900 + "@x.example",
    "\"><img src=x onerror=document.title='taken'>@x.example",
)


class Console(Program):
    """A sidecar that serves a console on a port."""

    def __init__(self, **more: Any) -> None:
        self.port = free_port()
        self.address_of_pages = f"http://127.0.0.1:{self.port}"
        settings = (
            f'bounce_classifier = ["iana"]\n[admin]\nsocket = "inet:127.0.0.1:{self.port}"\nconsole = true\n'
            'tokens = { reader = "reader-token", operator = "operator-token" }\n[suppression]\n'
        )
        super().__init__(settings=settings, domains=DOMAINS, **more)
        for name, text in (("reader-token", READER), ("operator-token", OPERATOR)):
            path = self.directory / name
            path.touch(mode=0o600)
            path.write_text(f"{text}\n")

    def message(self, sender: str, recipient: str, content: bytes = b"Subject: hello\r\n\r\nHello.\r\n", **peer: Any) -> None:
        """Send a message as an MTA passes it on."""
        with self.mta() as mta:
            mta.begin(**peer)
            answers = mta.envelope(f"<{sender}>".encode(), f"<{recipient}>".encode())
            if answers and answers[-1] == CONTINUE:
                mta.content(content)


def make_traffic(console: Console, rounds: int = 1) -> None:
    """Make records of each kind, also of hostile senders, and wait until they are on disk."""
    for number in range(rounds):
        console.message(f"a{number}@sender.example", "user@gmail.example")
        console.message("", f"v-{number}@bounce.example", OOB)
        console.message("", "v@bounce.example")
        console.message("fbl@isp.example", "fbl@fbl.example", ARF)
        console.message("a@sender.example", "sales@relay.example", peer="2001:db8::7")
    for one in HOSTILE:
        console.message(one, "user@gmail.example")
        console.message("a@sender.example", one)
    wait_until(lambda: len(console.records()) >= 6 * rounds + 2 * len(HOSTILE), "all records are written")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def log_in(page: Page, console: Console, token: str = OPERATOR) -> None:
    """Log in, as a person does."""
    page.goto(f"{console.address_of_pages}/console/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
