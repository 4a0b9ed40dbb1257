"""The suppression list behind a Postfix: what relay hosts get for suppressed recipients, and how soon a change is in force."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.text import rfc3339
from tests import preloaded
from tests.mta.client import EXTERNAL, Connection, Peer
from tests.mta.places import private_directory
from tests.mta.postfix import Postfix
from tests.mta.processes import wait_until
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

RELAY_HOST = Peer(address="127.0.0.1:4444")
SENDER, LOGGED, OPEN = "news@sender.example", "news@logged.example", "news@sub.open.example"
GONE, FINE = "Gone@Remote.example", "fine@remote.example"
MESSAGE = b"Subject: news\r\n\r\nNothing happened.\r\n"
DOMAINS = '["inbound.example"]\nrelay_to = true\n'
SETTINGS = """\
[suppression]
check = "reject"
[suppression.domain."logged.example"]
check = "log"
[suppression.domain."*.open.example"]
check = "off"
"""
# The contract: two seconds after the change, which the command needs some of to start.
SOON = 2.0
TAKEN = "250 2.1.5 Ok"


class Home:
    """A Postfix and a sidecar with a list."""

    def __init__(self, sidecar: Sidecar, postfix: Postfix) -> None:
        self.sidecar, self.postfix = sidecar, postfix

    def answers(self, *recipients: str, sender: str = SENDER, peer: Peer = RELAY_HOST) -> list[str]:
        """Return the answer to each recipient, and abort the message."""
        with Connection(self.postfix.port, peer) as connection:
            assert connection.say(f"MAIL FROM:<{sender}>").code == 250
            return [str(connection.say(f"RCPT TO:<{recipient}>")) for recipient in recipients]

    def sent(self, *recipients: str, sender: str = SENDER) -> list[dict[str, Any]]:
        """Send a message, and return its records."""
        self.sidecar.records()
        with Connection(self.postfix.port, RELAY_HOST) as connection:
            connection.send(sender, recipients, MESSAGE)
        self.postfix.delivered()
        return self.sidecar.records()

    def run(self, *arguments: str) -> None:
        """Run a command of the list."""
        self.command("suppression", *arguments)

    def command(self, *arguments: str) -> str:
        """Run a command with the settings of the sidecar, and return what it prints."""
        command = [sys.executable, "-m", "sidecar", *arguments, "--config", str(self.sidecar.config)]
        return str(preloaded.run(command, check=True, text=True).stdout)

    def is_rejected(self, address: str) -> bool:
        """Return True if an address is rejected."""
        return self.answers(address)[0].startswith("550")


@pytest.fixture(scope="module", params=["direct", "libmilter"])
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=DOMAINS, settings=SETTINGS, engine=request.param) as sidecar,
        Postfix(directory / "postfix", milter=sidecar.socket) as postfix,
    ):
        yield Home(sidecar, postfix)


def database(home: Home) -> Path:
    return home.sidecar.directory / "state/suppression.db"


def within(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and require that it was met soon."""
    began = time.monotonic()
    wait_until(condition, what)
    assert time.monotonic() - began < seconds, what


def add(home: Home, address: str, reason: str) -> None:
    home.run("add", address, "--reason", reason)
    within(SOON, lambda: home.is_rejected(address), f"{address} is on the list")


def test_reject_and_log(home: Home) -> None:
    """The entry is in the reply and in the records; other recipients, senders and peers get no such answer."""
    add(home, GONE, "asked 100% of us\u00e9 to stop")
    day = rfc3339(int(time.time()))[:10]
    reply = f"550 5.7.1 {{}} is on the suppression list: asked 100% of us? to stop since {day}"
    other = "gone@remote.EXAMPLE"
    assert home.answers(GONE, FINE, other) == [reply.format(GONE), TAKEN, reply.format(other)]
    assert home.answers(GONE, sender="") == [TAKEN]
    assert home.answers(GONE, sender=OPEN) == [TAKEN]
    assert home.answers(GONE, sender=LOGGED) == [TAKEN]
    add(home, "x@inbound.example", "external hosts are not asked")
    assert home.answers("x@inbound.example", peer=EXTERNAL) == [TAKEN]

    accepted, rejected = sorted(home.sent(GONE, FINE), key=lambda record: record["type"])
    entry = rejected["meta"]["suppressed"]
    assert entry == {"reason": "asked 100% of us\u00e9 to stop", "source": "manual", "since": entry["since"], "expires": None}
    assert (rejected["type"], rejected["recipient"], rejected["response"]["code"]) == ("Rejection", "Gone@remote.example", 550)
    assert rejected["meta"]["disposition"] == "rejected_at_rcpt"
    place = "(sidecar.toml:5 suppression.check)"
    why = f"{GONE} is on the suppression list: asked 100% of us\u00e9 to stop since {day} {place}"
    assert rejected["meta"]["why"] == why
    assert (accepted["recipient"], "suppressed" in accepted["meta"]) == (FINE, False)

    both = {record["recipient"]: record for record in home.sent(GONE, FINE, sender=LOGGED)}
    assert {record["type"] for record in both.values()} == {"Reception"}
    assert both["Gone@remote.example"]["meta"]["suppressed"] == entry
    assert "suppressed" not in both[FINE]["meta"]

    answer = json.loads(home.command("explain", "--json", "--peer", "127.0.0.1", "--from", SENDER, "--to", GONE))
    (explained,) = answer["recipients"]
    assert explained["reply"] == reply.format(GONE).replace("us?", "us\u00e9")
    assert explained["suppressed"] == entry | {"rule": None}

    home.run("remove", GONE, "--reason", "wants mail again")
    within(SOON, lambda: not home.is_rejected(GONE), "the address is removed")


def test_every_worker(home: Home) -> None:
    """Each new connection is served by any worker: a change is in force in all of them."""
    address = "everywhere@remote.example"
    add(home, address, "all")
    assert all(home.is_rejected(address) for _ in range(12))
    home.run("remove", address, "--reason", "none")
    within(SOON, lambda: not home.is_rejected(address), "removed")
    assert not any(home.is_rejected(address) for _ in range(12))


def test_removed_and_replaced(home: Home) -> None:
    """The list is made again from the journal if its database is removed, damaged, or an older copy."""
    address, later = "stays@remote.example", "later@remote.example"
    add(home, address, "first")
    copy = home.sidecar.directory / "copy.db"
    home.run("backup", str(copy))
    add(home, later, "second")

    for path in (database(home), *database(home).parent.glob("suppression.db-*")):
        path.unlink()
    within(SOON, lambda: home.is_rejected(address) and home.is_rejected(later), "the journal has all of it")

    # Readers of the old file see neither its log nor the new one's.
    for path in database(home).parent.glob("suppression.db-*"):
        path.unlink()
    shutil.copy2(copy, f"{database(home)}.new")
    Path(f"{database(home)}.new").rename(database(home))
    within(SOON, lambda: home.is_rejected(address) and home.is_rejected(later), "the copy has caught up")

    size = database(home).stat().st_size
    with database(home).open("r+b") as file:
        file.write(b"x" * size)
    # Damage is noticed when the list is used.
    home.run("add", "new@remote.example", "--reason", "third")
    within(5 * SOON, lambda: all(map(home.is_rejected, (address, later, "new@remote.example"))), "a damaged list is made again")
    assert list(database(home).parent.glob("suppression.db.damaged-*"))
