"""Let real Postfixes make the reports below tests/data/made: `python -m tests.mta.make_reports` as root, with DNS at hand.

Owns the situations and the names of the files. Never edits what Postfix wrote: the names in it are .example names because the
Postfixes are called so.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from tests import DATA
from tests.mta.client import Connection, Peer
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import HOST, Postfix, table
from tests.mta.processes import wait_until

MADE = DATA / "made"
SENDER = "news-17@bounce.sender.example"


class Situation(Struct, frozen=True, kw_only=True):
    """Mail that ends in a report: `recipients` and `parameters` as RCPT and MAIL have them, the former with their own."""

    recipients: tuple[str, ...]
    parameters: str = ""
    sender: str = SENDER
    hasty: bool = False


SITUATIONS = {
    "unknown-user": Situation(recipients=("<nobody@remote.example>",)),
    "unknown-user-long-reply": Situation(recipients=("<nobody@wordy.example>",)),
    "over-quota": Situation(recipients=("<full@remote.example>",)),
    "two-of-three": Situation(recipients=("<nobody@remote.example>", "<fine@remote.example>", "<full@remote.example>")),
    "refused-content": Situation(recipients=("<content@remote.example>",)),
    "host-not-found": Situation(recipients=("<somebody@nowhere.invalid>",)),
    "unknown-here": Situation(recipients=("<somebody@here.example>",)),
    "program-failed": Situation(recipients=("<somebody@program.example>",)),
    "delayed": Situation(recipients=("<later@remote.example>",)),
    "gave-up": Situation(recipients=("<somebody@silent.example>",), hasty=True),
    "envid-orcpt": Situation(
        recipients=("<nobody@remote.example> NOTIFY=FAILURE ORCPT=rfc822;Old.Name+2B17@customer.example",),
        parameters="RET=HDRS ENVID=campaign+2B17/4711",
    ),
    "relayed": Situation(recipients=("<fine@remote.example> NOTIFY=SUCCESS",), parameters="ENVID=proof-1"),
    "delivered": Situation(recipients=("<someone@bounce.sender.example> NOTIFY=SUCCESS",)),
    "utf8-address": Situation(
        recipients=("<nïemand@remote.example>",), parameters="SMTPUTF8", sender="neuigkeiten-ä@bounce.sender.example"
    ),
}

MESSAGE = """\
From: News <news@sender.example>
To: you@remote.example
Subject: The news of the week
Message-ID: <week-17@sender.example>
X-Campaign: 17

Nothing happened.
""".replace("\n", "\r\n").encode()

SERVICES = (
    "failing unix - n n - - pipe user=nobody argv=/bin/sh -c {echo this program failed; exit 69}",
    "empty unix - n n - - virtual -o { virtual_mailbox_maps = inline:{ { nobody@there.example = none } } }",
)


@contextmanager
def remote(directory: Path, wordy_port: int) -> Iterator[Postfix]:
    """A Postfix that refuses, each recipient in its own way; on `wordy_port` with a second line in every refusal."""
    recipients = {
        "nobody@": "550 5.1.1 No such user here",
        "nïemand@": "550 5.1.1 No such user here",
        "full@": "552 5.2.2 The mailbox is full",
        "later@": "450 4.2.1 Too busy, come back later",
    }
    settings = {
        "myhostname": "mx.remote.example",
        "smtpd_recipient_restrictions": f"check_recipient_access {table(recipients)}",
        "smtpd_data_restrictions": f"check_recipient_access {table({'content@': '554 5.7.1 We do not want this'})}",
    }
    footer = "{ smtpd_reject_footer = For help see https://remote.example/mail }"
    services = [f"{HOST}:{wordy_port} inet n - n - - smtpd -o {footer}"]
    with Postfix(directory, settings=settings, services=services) as postfix:
        yield postfix


def home_settings(port: int, wordy_port: int) -> dict[str, str]:
    """A Postfix that sends: which domain goes where, and no patience."""
    transports = {
        "bounce.sender.example": "virtual",
        "remote.example": f"smtp:[{HOST}]:{port}",
        "wordy.example": f"smtp:[{HOST}]:{wordy_port}",
        "silent.example": f"smtp:[{HOST}]:9",
        "here.example": "empty:",
        "program.example": "failing",
    }
    return {
        "myhostname": "mx.sender.example",
        "transport_maps": table(transports),
        "relay_transport": "smtp",
        # What the next host could promise is none of ours: this one shall make the reports.
        "smtp_discard_ehlo_keywords": "dsn",
        "delay_warning_time": "1s",
        "minimal_backoff_time": "2s",
        "maximal_backoff_time": "2s",
        "queue_run_delay": "1s",
        "notify_classes": "",
    }


def make(situation: Situation, postfix: Postfix) -> bytes:
    """Send the mail, and return the report about it."""
    mailbox = postfix.directory / "mail" / "new"
    before = set(mailbox.iterdir())
    with Connection(postfix.port, Peer(helo="app.sender.example", listener=f"{HOST}:25")) as connection:
        connection.say(f"MAIL FROM:<{situation.sender}> {situation.parameters}".rstrip())
        for recipient in situation.recipients:
            connection.say(f"RCPT TO:{recipient}")
        connection.content(MESSAGE)

    def reports() -> list[bytes]:
        return [text for path in set(mailbox.iterdir()) - before if b"multipart/report" in (text := path.read_bytes())]

    wait_until(reports, "a report came back")
    return reports()[0]


def main() -> None:
    """Make every report, and write it over the one that was there."""
    MADE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = stack.enter_context(private_directory())
        wordy_port = free_port()
        other = stack.enter_context(remote(directory / "remote", wordy_port))
        settings = home_settings(other.port, wordy_port)
        home = stack.enter_context(Postfix(directory / "home", settings=settings, services=SERVICES))
        hasty = stack.enter_context(Postfix(directory / "hasty", settings=settings | {"maximal_queue_lifetime": "0s"}))
        for name, situation in SITUATIONS.items():
            report = make(situation, hasty if situation.hasty else home)
            (MADE / f"{name}.eml").write_bytes(report)
            sys.stdout.write(f"{name}.eml: {len(report)} bytes\n")


if __name__ == "__main__":
    main()
