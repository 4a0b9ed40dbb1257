"""What the demonstration sends, and the expected results.

Owns the scenes. Never sends or prints one.
"""

from msgspec import Struct

from tests.mta.client import Peer
from tests.mta.mails import ARF, OOB, ORDINARY

DOMAINS = """\
["*"]
relay_to = false
log_oob = true
log_arf = true
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenRelay"
["customer.example"]
relay_to = true
["closed.example"]
log_oob = false
"""

RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24")

BOUNCES = "news-17@bounce.example"


class Expected(Struct, frozen=True, kw_only=True):
    """The beginning of the answer that decides, the types of the records in order, and the recipients that get the message."""

    answer: str
    records: tuple[str, ...]
    delivered: tuple[str, ...] = ()


class Scene(Struct, frozen=True, kw_only=True):
    """One message: `title` says in a few words what it is."""

    title: str
    peer: Peer
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    expected: Expected


SPAMMER = Peer(address="91.92.251.215:51966", helo="WIN-CLJ1B0GQ6JP")
REMOTE = Peer(address="203.0.113.9:4444", helo="mx.remote.example")
PROVIDER = Peer(address="198.51.100.7:2525", helo="fbl.mailbox.example")
OWN_HOST = Peer(address="192.168.1.7:40000", helo="app.shop.example")

SCENES = (
    Scene(
        title="Spam from an external host, to a domain that accepts only reports",
        peer=SPAMMER,
        sender="test@test.com",
        recipients=("mmiihhww09@gmail.com",),
        content=ORDINARY,
        expected=Expected(answer="550 5.7.1 relaying not permitted", records=("Rejection",)),
    ),
    Scene(
        title="A bounce report for a LogThenDrop domain",
        peer=REMOTE,
        sender="",
        recipients=(BOUNCES,),
        content=OOB,
        expected=Expected(answer="250 2.0.0 Ok", records=("Reception", "OOB")),
    ),
    Scene(
        title="A feedback report for a LogThenRelay domain",
        peer=PROVIDER,
        sender="complaints@mailbox.example",
        recipients=("abuse@fbl.example",),
        content=ARF,
        expected=Expected(answer="250 2.0.0 Ok", records=("Feedback",), delivered=("abuse@fbl.example",)),
    ),
    Scene(
        title="A relay host's ordinary mail",
        peer=OWN_HOST,
        sender="news@shop.example",
        recipients=("you@elsewhere.example",),
        content=ORDINARY,
        expected=Expected(answer="250 2.0.0 Ok", records=("Reception",), delivered=("you@elsewhere.example",)),
    ),
    Scene(
        title="Spam from an external host, to a bounce domain",
        peer=SPAMMER,
        sender="test@test.com",
        recipients=(BOUNCES,),
        content=ORDINARY,
        expected=Expected(answer="550 5.7.1 relaying not permitted", records=("Rejection",)),
    ),
    Scene(
        title="A bounce report to three recipients: relayed, dropped, rejected",
        peer=REMOTE,
        sender="",
        recipients=("you@customer.example", BOUNCES, "me@closed.example"),
        content=OOB,
        expected=Expected(
            answer="250 2.0.0 Ok", records=("Rejection", "Reception", "Reception", "OOB"), delivered=("you@customer.example",)
        ),
    ),
)

REAL_BOUNCE = Scene(
    title="A second real Postfix gets a rejection, and sends a bounce about it",
    peer=Peer(address="127.0.0.2", helo="mx.partner.example"),
    sender=BOUNCES,
    recipients=("user@closed.example",),
    content=ORDINARY,
    expected=Expected(answer="250 2.0.0 Ok", records=("Rejection", "Reception", "OOB")),
)
"""The second Postfix accepts this message and tries to deliver it. `answer` is what it answers its own client."""
