"""The open-relay battery: every trick with an address that we know of, by strangers, with each MTA's own address rewriting.

What counts is where a message would go on to: never to a domain that the policy did not open for it.
"""

import re
from collections.abc import Iterator, Sequence

import pytest
from msgspec import Struct

from tests.mta.client import STRANGER, Answer, Peer
from tests.mta.house import House, Pair, house
from tests.mta.mails import OOB, ORDINARY
from tests.mta.processes import wait_until
from tests.mta.sendmail import SendmailHouse, sendmail_house

pytestmark = pytest.mark.mta

DOMAINS = """\
["open.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenRelay"
["drop.example"]
log_oob = "LogThenDrop"
["send.example"]
relay_from = ["198.51.100.0/24"]
"""

EVIL = "evil.example"
LONG = "a." * 300
FRIEND = "friend@open.example"

INSIDER = Peer(address="192.168.1.7:4444")
SENDER_HOST = Peer(address="198.51.100.7:4444")
RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24")

# Where mail may go on to: anyone's to open.example, and reports to bounce.example as well.
CONTENTS = {ORDINARY: {"open.example"}, OOB: {"open.example", "bounce.example"}}

# What stands between the brackets of RCPT TO; `o` is a domain of ours, `e` one that nobody opened.
FORMS = """\
user@{e}
@{o}:user@{e}
@{o},@{o}:user@{e}
@{e}:user@{o}
@{e},@{o}:user@{o}
@{o}:@{e}:user@{o}
@{o}@{e}:user@{o}
user%{e}@{o}
user%{e}%{o}@{o}
user%{o}@{e}
user%{e}
{e}!user@{o}
{e}!user
{o}!{e}!user
{o}!user@{e}
{e}!user%{o}@{o}
user@{e}@{o}
user@{o}@{e}
user@{e}@
user@{e}@@{o}
user@@{e}
@{e}@{o}
@{e}
@
@{o}:
"user@{e}"@{o}
"user@{o}"@{e}
"user%{e}"@{o}
"{e}!user"@{o}
"user@{e}
"user@{e}"
"user"@{e}@{o}
"@{o}:user@{e}"@{o}
us"er@{e}"@{o}
"user\\"@{e}"@{o}
"user"%{e}@{o}
user\\@{e}@{o}
user\\%{e}@{o}
user@{o}\\@{e}
user@{e}\\@{o}
user@[192.0.2.1]
user@[IPv6:2001:db8::1]
user%[192.0.2.1]@{o}
user@[{o}]
user@[{e}]
user@192.0.2.1
user@3221225985
user@#3221225985
user@{e}.
user%{e}.@{o}
user%{e}@{o}.
user@{o}..{e}
user@.{e}
user@{o}.{e}
user@{e}.{o}
user@EvIl.ExAmPlE
USER%EVIL.EXAMPLE@{o}
=?utf-8?q?user=40{e}?=@{o}
=?utf-8?q?user?=@{e}
user%40{e}@{o}
user%25{e}@{o}
user=40{e}@{o}
user&#64;{e}@{o}
user\\x40{e}@{o}
user@{o}%2e{e}
user@{o}%00.{e}
user@{o}%{e}
user@evil。example
user@evil．example
user@ｅｖｉｌ.example
user＠{e}@{o}
user％{e}@{o}
{e}！user@{o}
user@{o}＠{e}
user@{e}\u200b
user@{e}\u00ad@{o}
user@~{e}
user%~{e}@{o}
user@{o}.~{e}
~@{e}
user
postmaster
root
user@mx.example
user@localhost
user%{e}@mx.example
{e}!user@localhost
user%{e}@[127.0.0.1]
user%{e}@[10.1.1.1]
user@{o}\x00.{e}
user%{e}\x00@{o}
user\x00@{e}@{o}
user@{o}\x01.{e}
user@{o}\t.{e}
user@{o} {e}
user@{e} @{o}
user@ {e}
user @{e}
user@{e},user@{o}
user@{o},user@{e}
user@{e};user@{o}
group:user@{e};@{o}
user@{e}><user@{o}
user@{o}><user@{e}
user@{e}(x@{o})
user@{e} (x@{o}
user(@{o})@{e}
(@{e})user@{o}
user@{o}({e})
user@({o}){e}
user@{o}:user@{e}
{e}:user@{o}
{e}::user@{o}
{e}^user@{o}
user@{o}:25
user@{o}/{e}
|relay {e}@{o}
/var/tmp/x@{o}
:include:/var/tmp/x@{o}
\\user%{e}@{o}
user@{o}\udcff.{e}
user%{e}\udcff@{o}
""".splitlines()

# The whole argument of RCPT TO, with what a lenient parser might make of it.
ARGUMENTS = """\
user@{e}
user@{o},user@{e}
<user@{o}>user@{e}
<user@{o}> <user@{e}>
<user@{e}> <user@{o}>
<user@{o}><user@{e}>
<<user@{e}>@{o}>
user@{e} <user@{o}>
"user@{e}" <user@{o}>
<user@{o}> ORCPT=rfc822;user@{e}
<user@{o}
user%{e}@{o}
<@{o}:<user@{e}>>
 <user%{e}@{o}>
""".splitlines()
TRICKS = [*(f"<{form}>" for form in FORMS), *ARGUMENTS]

# Envelope senders that look as if they were in send.example, and are not.
SENDERS = """\
@send.example:user@{e}
@send.example,@x.example:user@{e}
"user@send.example"@{e}
user%send.example@{e}
send.example!user@{e}
user@send.example@{e}
user@send.example@
user@send.example.{e}
user@x.send.example
user@xsend.example
user@{e} (@send.example
user@{e}(@send.example)
(user@send.example)user@{e}
<user@{e}>@send.example
<user@send.example>@{e}
user@[send.example]
user@send.example\\.{e}
send.example
@send.example
"@send.example"
user@send.example\u200b.{e}
""".splitlines()


class Setup(Struct, frozen=True, kw_only=True):
    """How an MTA is told what it may relay.

    `open` says that the sidecar is the only control, `own` that the MTA takes the policy's domains for its own.
    """

    postfix: dict[str, str]
    sendmail: str
    open: bool = True
    own: bool = False


OURS = "open.example bounce.example drop.example"
SETUPS = {
    "all is relayed": Setup(postfix={"relay_domains": "static:ALL"}, sendmail="FEATURE(`promiscuous_relay')"),
    "all is relayed, and our domains are local": Setup(
        postfix={"relay_domains": "static:ALL", "mydestination": f"{OURS} mx.example localhost"},
        sendmail=f"FEATURE(`promiscuous_relay')\nLOCAL_DOMAIN(`{OURS}')",
        own=True,
    ),
    "only our domains are relayed": Setup(postfix={"relay_domains": OURS}, sendmail=f"RELAY_DOMAIN(`{OURS}')", open=False),
}


class Battery(Struct, frozen=True, kw_only=True):
    """An MTA beside a sidecar, and where it would send what it took."""

    home: Pair
    setup: Setup

    def fire(
        self, arguments: Sequence[str], content: bytes, *, peer: Peer = STRANGER, sender: str = "", friend: bool = False
    ) -> set[str]:
        """Offer a message to each argument of RCPT TO, with a friend if asked; give the domains that they go on to.

        The MTA's own machine is no domain to go on to, where it takes the policy's domains for its own.
        """
        answers = [self._offer(argument, content, peer, sender, friend) for argument in arguments]
        if isinstance(self.home, SendmailHouse):
            hosts = hosts_of_sendmail(self.home)
            return hosts - {""} if self.setup.own else hosts
        assert isinstance(self.home, House)
        return hosts_of_postfix(self.home, [answer for answer in answers if answer.code == 250])

    def _offer(self, argument: str, content: bytes, peer: Peer, sender: str, friend: bool) -> Answer:
        with self.home.connect(peer) as connection:
            mail = connection.say(f"MAIL FROM:<{sender}>")
            if mail.code != 250:
                return mail
            connection.write(b"RCPT TO:" + argument.encode("utf-8", "surrogateescape") + b"\r\n")
            answer = connection.reply()
            if answer.code == 250 and friend:
                # Sendmail looks whether a local user is there.
                assert connection.say(f"RCPT TO:<{FRIEND}>").code in {250, 550}
            return connection.content(content) if answer.code == 250 else answer


def hosts_of_sendmail(home: SendmailHouse) -> set[str]:
    """Give the hosts that Sendmail's rules name for what is in its queue; `""` is its own machine."""
    recipients = [recipient for message in home.sendmail.queued() for recipient in message.recipients]
    return {host.lower().rstrip(".") for host in home.sendmail.next_hosts(recipients)} if recipients else set()


def hosts_of_postfix(home: House, taken: Sequence[Answer]) -> set[str]:
    """Give the domains of the addresses to which Postfix's log says it delivered: after all rewriting."""
    ids = {answer.text.rpartition(" ")[2] for answer in taken}

    def log() -> str:
        # postlogd makes the file when the first line comes.
        return home.postfix.log.read_text(errors="replace") if home.postfix.log.exists() else ""

    wait_until(lambda: all(f"{one}: " in log() for one in ids), "Postfix's log tells of the messages")
    home.delivered()
    found = re.findall(r"(?m)^.*?: (\w+): to=<(.*?)>, (?:orig_to|relay)=", log())
    return {address.rpartition("@")[2].lower().rstrip(".") for one, address in found if one in ids}


def filled(form: str, ours: str = "") -> str:
    """Put the domains into a form."""
    return form.replace("{o}", ours).replace("{e}", EVIL).replace("~", LONG)


MTAS = ("postfix", "sendmail")
# Both engines hand the same over: that of our own is shot at where the MTA itself lets most through.
TARGETS = [(mta, setup, "libmilter") for mta in MTAS for setup in SETUPS] + [(mta, "all is relayed", "direct") for mta in MTAS]


@pytest.fixture(scope="module", params=TARGETS, ids=" - ".join)
def battery(request: pytest.FixtureRequest) -> Iterator[Battery]:
    mta, name, engine = request.param
    setup = SETUPS[name]
    if mta == "postfix":
        with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, postfix=setup.postfix, engine=engine) as home:
            yield Battery(home=home, setup=setup)
    else:
        with sendmail_house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, lines=setup.sendmail, engine=engine) as home:
            yield Battery(home=home, setup=setup)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_stranger_relays_to_no_domain_that_is_not_open(battery: Battery, trick: str) -> None:
    """Whatever a stranger writes for a recipient, mail goes on to open domains only, and reports to those that take them."""
    for content, open_to_it in CONTENTS.items():
        assert battery.fire([filled(trick, "open.example"), filled(trick, "bounce.example")], content) <= open_to_it


@pytest.mark.parametrize("trick", TRICKS)
def test_a_recipient_that_is_to_be_dropped_is_dropped(battery: Battery, trick: str) -> None:
    """However a recipient that takes reports to be dropped is written, mail goes on only to the friend beside it."""
    for content in CONTENTS:
        assert battery.fire([filled(trick, "drop.example")], content, friend=True) <= {"open.example"}


@pytest.mark.parametrize("sender", SENDERS)
def test_a_sender_that_only_looks_right_relays_nothing(battery: Battery, sender: str) -> None:
    """A peer of relay_from relays for senders in the domain itself, not for what only looks like it."""
    assert battery.fire([f"<user@{EVIL}>"], ORDINARY, peer=SENDER_HOST, sender=filled(sender)) == set()


def test_the_battery_can_hit(battery: Battery) -> None:
    """The same tricks by a peer that may relay do arrive where they aim at, unless the MTA has relay control of its own."""
    trick = "<user%{e}@{o}>" if battery.setup.own else "<user@{e}>"
    aim = {EVIL} if battery.setup.open else set()
    assert battery.fire([filled(trick, "open.example")], ORDINARY, peer=INSIDER) == aim
    assert battery.fire([f"<user@{EVIL}>"], ORDINARY, peer=SENDER_HOST, sender="user@send.example") == aim
