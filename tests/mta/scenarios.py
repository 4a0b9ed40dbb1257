"""One table of what peers do and what comes of it, the same for every MTA, and the few things in which MTAs differ.

Owns the table. Never talks to an MTA.
"""

from typing import Any, Literal

from msgspec import Struct

from sidecar.core.policy.address import normal_address
from tests.mta.client import EXTERNAL, Answer, Peer
from tests.mta.mails import ARF, BOTH, OOB, ORDINARY
from tests.mta.sidecar import Record

Kind = Literal["postfix", "sendmail"]

DOMAINS = """\
["relay.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenDrop"
["oob-on.example"]
log_oob = true
["arf-on.example"]
log_arf = "LogThenRelay"
["reports.example"]
log_oob = "LogThenDrop"
log_arf = "LogThenRelay"
["both.example"]
relay_to = true
log_oob = "LogThenDrop"
["send.example"]
relay_from = ["198.51.100.0/24", "2001:db8:1::/48"]
["auth.example"]
relay_from_authz = ["daniel"]
["*.wild.example"]
log_oob = true
["not.wild.example"]
log_oob = false
["bücher.example"]
log_oob = "LogThenDrop"
["xn--gro-7ka.example"]
relay_to = true
[listener."10.1.1.1:2525"."bounce.example"]
log_oob = false
[listener."10.1.1.1:2525"."only.example"]
relay_to = true
[listener."[2001:db8::25]:25"."six.example"]
relay_to = true
"""

RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24", "2001:db8:ff::/48")

SETTINGS = """\
headers = ["Subject"]
[listener."10.1.1.1:2525"]
relay_hosts = ["172.16.0.0/12"]
"""

ACCOUNTS = ("daniel", "danielle")

OK = "250"
NO_REPORT = "550 5.7.1 relaying not permitted"


def denied(peer: str) -> str:
    """Give the refusal of a recipient."""
    return f"{NO_REPORT} for {peer}"


class Offer(Struct, frozen=True, kw_only=True):
    """One message: what is offered, and the replies: to each RCPT, and to the content if any recipient was accepted.

    A reply is `250`, whatever the MTA says with it, or a refusal word for word.
    """

    sender: str = "somebody@peer.example.net"
    to: tuple[str, ...]
    content: bytes = ORDINARY
    parameters: str = ""
    replies: tuple[str, ...]


class Scenario(Struct, frozen=True, kw_only=True):
    """A connection of one peer: its messages, the records (type, code, recipients), and who is to be delivered to.

    `needs` names the SMTP extensions without which the scenario cannot be played.
    """

    name: str
    peer: Peer = EXTERNAL
    offers: tuple[Offer, ...]
    records: tuple[tuple[str, int, str | list[str]], ...]
    delivered: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()


def one(
    name: str,
    to: str,
    *replies: str,
    peer: Peer = EXTERNAL,
    sender: str = "somebody@peer.example.net",
    content: bytes = ORDINARY,
    records: str,
    delivered: bool = False,
    parameters: str = "",
    needs: str = "",
) -> Scenario:
    """Make the scenario of one message to one recipient. `records` names the types; `replies` are OK if none is named."""
    own = normal_address(to)
    found = {"Reception": (250, own), "Feedback": (250, own), "OOB": (550, "someone@remote.example"), "Rejection": (550, own)}
    return Scenario(
        name=name,
        peer=peer,
        offers=(Offer(sender=sender, to=(to,), content=content, parameters=parameters, replies=replies or (OK, OK)),),
        records=tuple((kind, *found[kind]) for kind in records.split()),
        delivered=(to,) if delivered else (),
        needs=frozenset(needs.split()),
    )


NOT_FOR_ME = denied("203.0.113.9:4444")
BOUNCED = "Reception OOB"
SECOND = Peer(listener="10.1.1.1:2525")
SIXTH = Peer(address="[2001:db8::9]:4444", listener="[2001:db8::25]:25")
DUAL = "10.1.1.1:2526"
RELAY_HOST = Peer(address="192.168.1.7:4444")
SENDER_HOST = Peer(address="198.51.100.7:4444")
DANIEL = Peer(login="daniel")

SCENARIOS = [
    # Who may relay.
    one("a stranger may not send to a domain that nobody named", "you@elsewhere.example", NOT_FOR_ME, records="Rejection"),
    one(
        "the refusal names an IPv6 peer in brackets",
        "you@elsewhere.example",
        denied("[2001:db8::9]:4444"),
        peer=SIXTH,
        records="Rejection",
    ),
    one("a relay host may send anywhere", "you@elsewhere.example", peer=RELAY_HOST, records="Reception", delivered=True),
    one(
        "a relay host by IPv6 may send anywhere",
        "you@elsewhere.example",
        peer=Peer(address="[2001:db8:ff::7]:4444", listener="[2001:db8::25]:25"),
        records="Reception",
        delivered=True,
    ),
    one(
        "a relay host by its IPv4-mapped address may send anywhere",
        "you@elsewhere.example",
        peer=Peer(address="[::ffff:192.168.1.7]:4444", listener=DUAL),
        records="Reception",
        delivered=True,
    ),
    one(
        "a stranger by its IPv4-mapped address is named as IPv4",
        "you@elsewhere.example",
        NOT_FOR_ME,
        peer=Peer(address="[::ffff:203.0.113.9]:4444", listener=DUAL),
        records="Rejection",
    ),
    one(
        "a listener's own relay hosts replace the global ones",
        "you@elsewhere.example",
        denied("192.168.1.7:4444"),
        peer=Peer(address="192.168.1.7:4444", listener="10.1.1.1:2525"),
        records="Rejection",
    ),
    one(
        "a relay host of one listener may send anywhere through it",
        "you@elsewhere.example",
        peer=Peer(address="172.16.0.1:4444", listener="10.1.1.1:2525"),
        records="Reception",
        delivered=True,
    ),
    one(
        "a relay host of one listener is a stranger on another",
        "you@elsewhere.example",
        denied("172.16.0.1:4444"),
        peer=Peer(address="172.16.0.1:4444"),
        records="Rejection",
    ),
    one("relay_to lets anyone send to the domain", "you@relay.example", records="Reception", delivered=True),
    one(
        "relay_to is no permission to send elsewhere in the domain's name",
        "you@elsewhere.example",
        NOT_FOR_ME,
        sender="somebody@relay.example",
        records="Rejection",
    ),
    one(
        "relay_from lets its peers send anywhere for the domain",
        "you@elsewhere.example",
        peer=SENDER_HOST,
        sender="somebody@send.example",
        records="Reception",
        delivered=True,
    ),
    one(
        "relay_from takes IPv6 peers, and the domain in any case",
        "you@elsewhere.example",
        peer=Peer(address="[2001:db8:1::7]:4444", listener="[2001:db8::25]:25"),
        sender="somebody@SEND.example",
        records="Reception",
        delivered=True,
    ),
    one(
        "relay_from is for no other sender",
        "you@elsewhere.example",
        denied("198.51.100.7:4444"),
        peer=SENDER_HOST,
        records="Rejection",
    ),
    one(
        "relay_from is not for the null sender",
        "you@elsewhere.example",
        denied("198.51.100.7:4444"),
        peer=SENDER_HOST,
        sender="",
        content=OOB,
        records="Rejection",
    ),
    one(
        "relay_from is for no other peer",
        "you@elsewhere.example",
        NOT_FOR_ME,
        sender="somebody@send.example",
        records="Rejection",
    ),
    one(
        "relay_from does not open the domain as a recipient",
        "you@send.example",
        denied("198.51.100.7:4444"),
        peer=SENDER_HOST,
        records="Rejection",
    ),
    one(
        "relay_from_authz lets an identity send anywhere for the domain",
        "you@elsewhere.example",
        peer=DANIEL,
        sender="somebody@auth.example",
        records="Reception",
        delivered=True,
    ),
    one(
        "relay_from_authz is for nobody who did not say AUTH",
        "you@elsewhere.example",
        NOT_FOR_ME,
        sender="somebody@auth.example",
        records="Rejection",
    ),
    one(
        "relay_from_authz is for no other identity",
        "you@elsewhere.example",
        NOT_FOR_ME,
        peer=Peer(login="danielle"),
        sender="somebody@auth.example",
        records="Rejection",
    ),
    one("relay_from_authz is for no other sender", "you@elsewhere.example", NOT_FOR_ME, peer=DANIEL, records="Rejection"),
    # Who takes reports.
    one("a bounce report is dropped", "n@bounce.example", sender="", content=OOB, records=BOUNCED),
    one("a bounce report is relayed", "n@oob-on.example", sender="", content=OOB, records=BOUNCED, delivered=True),
    one("a bounce report may have a sender", "n@bounce.example", content=OOB, records=BOUNCED),
    one("a feedback report is dropped", "c@fbl.example", sender="fbl@remote.example", content=ARF, records="Feedback"),
    one("a feedback report is relayed", "c@arf-on.example", content=ARF, records="Feedback", delivered=True),
    one(
        "mail that is no report is refused at its end",
        "n@bounce.example",
        OK,
        NO_REPORT,
        records="Rejection",
    ),
    one("a bounce report is none for a domain of feedback", "c@fbl.example", OK, NO_REPORT, content=OOB, records="Rejection"),
    one("feedback is none for a domain of bounces", "n@bounce.example", OK, NO_REPORT, content=ARF, records="Rejection"),
    one("a message that is both is feedback first", "r@reports.example", content=BOTH, records="Feedback", delivered=True),
    one("a message that is both is a bounce for a domain of bounces", "n@bounce.example", content=BOTH, records=BOUNCED),
    one("a report is taken out where anyone may send", "b@both.example", sender="", content=OOB, records=BOUNCED),
    one("mail goes on where anyone may send", "b@both.example", records="Reception", delivered=True),
    one(
        "a relay host's report is taken out too",
        "n@bounce.example",
        peer=RELAY_HOST,
        sender="",
        content=OOB,
        records=BOUNCED,
    ),
    one(
        "a relay host's mail goes on to a domain of reports",
        "n@bounce.example",
        peer=RELAY_HOST,
        records="Reception",
        delivered=True,
    ),
    one(
        "a relay host's report is mail for a domain that logs none",
        "you@elsewhere.example",
        peer=RELAY_HOST,
        sender="",
        content=OOB,
        records="Reception",
        delivered=True,
    ),
    # Which entry answers.
    one("a wildcard matches below its domain", "w@a.b.wild.example", sender="", content=OOB, records=BOUNCED, delivered=True),
    one("a wildcard is not its own domain", "w@wild.example", NOT_FOR_ME, sender="", content=OOB, records="Rejection"),
    one("an entry replaces the wildcard", "w@not.wild.example", NOT_FOR_ME, sender="", content=OOB, records="Rejection"),
    one("a domain is the same without case", "News-17@Bounce.EXAMPLE", sender="", content=OOB, records=BOUNCED),
    one("an IDN is the same as A-labels", "n@xn--bcher-kva.example", sender="", content=OOB, records=BOUNCED),
    one(
        "an IDN is the same as U-labels",
        "nöws@bücher.example",
        sender="",
        content=OOB,
        parameters="SMTPUTF8",
        needs="SMTPUTF8",
        records=BOUNCED,
    ),
    # Postfix with ICU 72 delivers this one to gross.example.
    one(
        "a domain that MTAs map to different A-labels is rejected",
        "you@GROẞ.example",
        NOT_FOR_ME,
        parameters="SMTPUTF8",
        needs="SMTPUTF8",
        records="Rejection",
    ),
    one("its A-label is accepted", "you@xn--gro-7ka.example", records="Reception", delivered=True),
    one(
        "an address beyond ASCII goes on as it came",
        "yöu@relay.example",
        sender="jürgen@peer.example.net",
        parameters="SMTPUTF8",
        needs="SMTPUTF8",
        records="Reception",
        delivered=True,
    ),
    one(
        "a listener's own entry replaces the shared one",
        "n@bounce.example",
        NOT_FOR_ME,
        peer=SECOND,
        sender="",
        content=OOB,
        records="Rejection",
    ),
    one("a listener has entries of its own", "o@only.example", peer=SECOND, records="Reception", delivered=True),
    one("a listener's entry is none of another's", "o@only.example", NOT_FOR_ME, records="Rejection"),
    one("an IPv6 listener has entries of its own", "s@six.example", peer=SIXTH, records="Reception", delivered=True),
    one("postmaster alone has no domain", "postmaster", NOT_FOR_ME, records="Rejection"),
    # More than one.
    Scenario(
        name="each recipient learns its own fate, and some are taken off",
        offers=(
            Offer(
                sender="",
                to=("a@relay.example", "n@bounce.example", "you@elsewhere.example", "w@x.wild.example"),
                content=OOB,
                replies=(OK, OK, NOT_FOR_ME, OK, OK),
            ),
        ),
        records=(
            ("Rejection", 550, "you@elsewhere.example"),
            ("Reception", 250, "a@relay.example"),
            ("Reception", 250, "n@bounce.example"),
            ("OOB", 550, "someone@remote.example"),
            ("Reception", 250, "w@x.wild.example"),
            ("OOB", 550, "someone@remote.example"),
        ),
        delivered=("a@relay.example", "w@x.wild.example"),
    ),
    Scenario(
        name="mail that is no report reaches only those who may have it",
        offers=(Offer(to=("n@bounce.example", "a@relay.example", "c@fbl.example"), replies=(OK, OK, OK, OK)),),
        records=(
            ("Reception", 250, "n@bounce.example"),
            ("Reception", 250, "a@relay.example"),
            ("Reception", 250, "c@fbl.example"),
        ),
        delivered=("a@relay.example",),
    ),
    Scenario(
        name="a recipient that is taken off is found in the MTA's own spelling",
        offers=(
            Offer(
                sender="",
                to=("News@BOUNCE.example.", '"q t"@bounce.example', "a@relay.example"),
                content=OOB,
                replies=(OK, OK, OK, OK),
            ),
        ),
        records=(
            ("Reception", 250, "News@bounce.example"),
            ("OOB", 550, "someone@remote.example"),
            ("Reception", 250, '"q t"@bounce.example'),
            ("OOB", 550, "someone@remote.example"),
            ("Reception", 250, "a@relay.example"),
        ),
        delivered=("a@relay.example",),
    ),
    Scenario(
        name="every message of a connection is judged by itself",
        offers=(
            Offer(sender="", to=("n@bounce.example",), content=OOB, replies=(OK, OK)),
            Offer(to=("n@bounce.example",), replies=(OK, NO_REPORT)),
            Offer(to=("a@relay.example",), replies=(OK, OK)),
            Offer(to=("you@elsewhere.example",), replies=(NOT_FOR_ME,)),
            Offer(to=("c@fbl.example",), content=ARF, replies=(OK, OK)),
        ),
        records=(
            ("Reception", 250, "n@bounce.example"),
            ("OOB", 550, "someone@remote.example"),
            ("Rejection", 550, "n@bounce.example"),
            ("Reception", 250, "a@relay.example"),
            ("Rejection", 550, "you@elsewhere.example"),
            ("Feedback", 250, "c@fbl.example"),
        ),
        delivered=("a@relay.example",),
    ),
    Scenario(
        name="the sender of each message decides for relay_from_authz",
        peer=DANIEL,
        offers=(
            Offer(sender="x@auth.example", to=("you@elsewhere.example",), replies=(OK, OK)),
            Offer(sender="x@other.example", to=("me@elsewhere.example",), replies=(NOT_FOR_ME,)),
        ),
        records=(("Reception", 250, "you@elsewhere.example"), ("Rejection", 550, "me@elsewhere.example")),
        delivered=("you@elsewhere.example",),
    ),
]


# --- In what MTAs differ, each with its line in deploy/DIFFERENCES.md. Everything else is the same with all of them.

LACKS: dict[Kind, frozenset[str]] = {
    "postfix": frozenset(),
    # Debian's Sendmail 8.17 is built without SMTPUTF8 (USE_EAI), and none knows BDAT (RFC 3030).
    "sendmail": frozenset({"SMTPUTF8", "CHUNKING"}),
}

# Ids and times of each message, and the queue id, which has its own form and is known earlier in Sendmail.
_OWN = {"id", "session_id", "nodeid", "timestamp", "event_time", "created", "created_time"}
_OWN_META = {"queue_id", "message_id"}


def reply_of(kind: Kind, answer: Answer) -> str:
    """Give a reply as the table has it: what goes with a 250 is each MTA's own, and Sendmail repeats the recipient."""
    if answer.code == 250:
        return OK
    text = str(answer)
    if kind == "sendmail":
        head, repeated, reason = text.partition(">... ")
        return f"{head.partition('<')[0]}{reason}" if repeated else text
    return text


def comparable(record: Record) -> dict[str, Any]:
    """Give what must be the same in the records of all MTAs."""
    kept = {key: value for key, value in record.items() if key not in _OWN}
    return kept | {"meta": {key: value for key, value in record["meta"].items() if key not in _OWN_META}}
