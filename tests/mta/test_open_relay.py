"""The open-relay battery: every trick with an address that we know of, by strangers, with each MTA's own address rewriting.

What counts is where a message would go on to: never to a domain that the policy did not open for it.
"""

from collections.abc import Iterator, Sequence

import pytest
from msgspec import Struct

from tests.mta.client import EXTERNAL, Answer, Connection, Peer
from tests.mta.house import House, Pair, house
from tests.mta.mails import OOB, ORDINARY
from tests.mta.sendmail import SendmailHouse, sendmail_house
from tests.mta.tricks import EVIL, SENDERS, TRICKS, filled, hosts_of_postfix

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

FRIEND = "friend@open.example"

INSIDER = Peer(address="192.168.1.7:4444")
SENDER_HOST = Peer(address="198.51.100.7:4444")
RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24")

# Where mail may go on to: anyone's to open.example, and reports to bounce.example as well.
CONTENTS = {ORDINARY: {"open.example"}, OOB: {"open.example", "bounce.example"}}


class Setup(Struct, frozen=True, kw_only=True):
    """How an MTA is told what it may relay.

    `open` says that the sidecar is the only control, `own` that the MTA takes the policy's domains for its own.
    """

    postfix: dict[str, str]
    sendmail: str
    open: bool = True
    own: bool = False


# All messages of a group are offered in one connection, whatever Postfix thinks of them.
PATIENT = {
    "smtpd_error_sleep_time": "0s",
    "smtpd_soft_error_limit": "1000",
    "smtpd_hard_error_limit": "1000",
    "smtpd_junk_command_limit": "1000",
}

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
        self, arguments: Sequence[str], content: bytes, *, peer: Peer = EXTERNAL, sender: str = "", friend: bool = False
    ) -> set[str]:
        """Offer a message to each argument of RCPT TO, with a friend if asked; return the domains that they go on to.

        The MTA's own machine is no domain to go on to, where it takes the policy's domains for its own.
        """
        since = self._log_size()
        with self.home.connect(peer) as connection:
            answers = [_offer(connection, argument, content, sender, friend=friend) for argument in arguments]
        if isinstance(self.home, SendmailHouse):
            hosts = hosts_of_sendmail(self.home)
            return hosts - {""} if self.setup.own else hosts
        assert isinstance(self.home, House)
        return hosts_of_postfix(self.home, [answer for answer in answers if answer.code == 250], since=since)

    def _log_size(self) -> int:
        # postlogd makes the file when the first line comes.
        log = self.home.postfix.log if isinstance(self.home, House) else None
        return log.stat().st_size if log is not None and log.exists() else 0


def _offer(connection: Connection, argument: str, content: bytes, sender: str, *, friend: bool) -> Answer:
    """Offer one message, and leave the connection ready for the next one."""
    answer = connection.say(f"MAIL FROM:<{sender}>")
    if answer.code == 250:
        connection.write(b"RCPT TO:" + argument.encode("utf-8", "surrogateescape") + b"\r\n")
        answer = connection.reply()
        if answer.code == 250:
            if friend:
                # Sendmail looks whether a local user is there.
                assert connection.say(f"RCPT TO:<{FRIEND}>").code in {250, 550}
            answer = connection.content(content)
    assert connection.say("RSET").code == 250
    return answer


def hosts_of_sendmail(home: SendmailHouse) -> set[str]:
    """Give the hosts that Sendmail's rules name for what is in its queue; `""` is its own machine."""
    recipients = [recipient for message in home.sendmail.queued() for recipient in message.recipients]
    return {host.lower().rstrip(".") for host in home.sendmail.next_hosts(recipients)} if recipients else set()


MTAS = ("postfix", "sendmail")
# Both engines pass the same events to the policy. libmilter gets the setup in which the MTA itself permits most.
TARGETS = [(mta, setup, "direct") for mta in MTAS for setup in SETUPS] + [(mta, "all is relayed", "libmilter") for mta in MTAS]


@pytest.fixture(scope="module", params=TARGETS, ids=" - ".join)
def battery(request: pytest.FixtureRequest) -> Iterator[Battery]:
    mta, name, engine = request.param
    setup = SETUPS[name]
    if mta == "postfix":
        with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, postfix=PATIENT | setup.postfix, engine=engine) as home:
            yield Battery(home=home, setup=setup)
    else:
        with sendmail_house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, lines=setup.sendmail, engine=engine) as home:
            yield Battery(home=home, setup=setup)


# Looking where mail goes on to takes longer than offering it: these are offered together.
TOGETHER = 12
GROUPS = [TRICKS[start : start + TOGETHER] for start in range(0, len(TRICKS), TOGETHER)]


def assert_within(allowed: set[str], battery: Battery, tricks: Sequence[str], content: bytes, *, friend: bool) -> None:
    """Assert that no trick at these domains sends mail elsewhere. If one does, offer each alone, to name it."""
    domains = ("drop.example",) if friend else ("open.example", "bounce.example")
    arguments = [filled(trick, domain) for trick in tricks for domain in domains]
    if battery.fire(arguments, content, friend=friend) <= allowed:
        return
    alone = {argument: battery.fire([argument], content, friend=friend) for argument in arguments}
    assert {argument: hosts for argument, hosts in alone.items() if not hosts <= allowed} == {}
    pytest.fail(f"only together: {arguments}")


@pytest.mark.parametrize("tricks", GROUPS, ids=lambda tricks: tricks[0])
def test_a_stranger_relays_to_no_domain_that_is_not_open(battery: Battery, tricks: Sequence[str]) -> None:
    """Whatever a stranger writes for a recipient, mail goes on to open domains only, and reports to those that take them."""
    for content, open_to_it in CONTENTS.items():
        assert_within(open_to_it, battery, tricks, content, friend=False)


@pytest.mark.parametrize("tricks", GROUPS, ids=lambda tricks: tricks[0])
def test_a_recipient_that_is_to_be_dropped_is_dropped(battery: Battery, tricks: Sequence[str]) -> None:
    """However a recipient that takes reports to be dropped is written, mail goes on only to the friend beside it."""
    for content in CONTENTS:
        assert_within({"open.example"}, battery, tricks, content, friend=True)


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
