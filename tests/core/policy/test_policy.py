"""The rules of connect and RCPT, over every combination of what can be set."""

from ipaddress import ip_address
from itertools import product

import pytest

from sidecar.config.rules import iana_rules
from sidecar.core.names import plain_address
from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode
from tests.building import MODES, entry, settings

EXTERNAL = ip_address("203.0.113.9")
RELAY_HOST = ip_address("192.168.1.7")
RELAY_HOSTS = ["192.168.1.0/24"]
BOOLS = [False, True]


@pytest.mark.parametrize("log_arf", MODES)
@pytest.mark.parametrize("log_oob", MODES)
@pytest.mark.parametrize(("relay_host", "relay_from", "authz", "relay_to"), list(product(BOOLS, BOOLS, BOOLS, BOOLS)))
def test_recipient(
    relay_host: bool,
    relay_from: bool,
    authz: bool,
    relay_to: bool,
    log_oob: str,
    log_arf: str,
) -> None:
    """A recipient is accepted if the peer may relay, or the domain takes reports; the modes are those of its domain."""
    policy = compile_policy(
        settings(
            [
                entry("to.example", relay_to=relay_to, log_oob=log_oob, log_arf=log_arf),
                entry("from.example", relay_from=["203.0.113.0/24"] if relay_from else [], relay_from_authz=["daniel"]),
            ],
            relay_hosts=RELAY_HOSTS,
        )
    )
    answer = policy.at_rcpt(
        RELAY_HOST if relay_host else EXTERNAL,
        "10.1.1.1:25",
        "daniel" if authz else "other",
        "me@from.example",
        "you@to.example",
    )
    assert answer.relay == (relay_host or relay_from or authz or relay_to)
    assert (answer.log_oob.value, answer.log_arf.value) == (log_oob, log_arf)
    assert answer.accept == (answer.relay or log_oob != "Ignore" or log_arf != "Ignore")
    assert answer.because
    assert all(reason.text for reason in answer.because)


@pytest.mark.parametrize(
    "recipient", ["you%else.example@to.example", '"you@else.example"@to.example', "else.example!you@to.example"]
)
@pytest.mark.parametrize("log_oob", MODES)
@pytest.mark.parametrize(("relay_host", "relay_to"), list(product(BOOLS, BOOLS)))
def test_an_address_with_a_route(recipient: str, log_oob: str, relay_host: bool, relay_to: bool) -> None:
    """Mail to an address that an MTA could read in another way is not relayed for external hosts; reports can be dropped."""
    policy = compile_policy(settings([entry("to.example", relay_to=relay_to, log_oob=log_oob)], relay_hosts=RELAY_HOSTS))
    answer = policy.at_rcpt(RELAY_HOST if relay_host else EXTERNAL, ANY_LISTENER, None, "me@from.example", recipient)
    assert answer.domain == "to.example"
    assert answer.relay == relay_host
    if relay_host:
        assert answer.log_oob.value == log_oob
    else:
        assert answer.log_oob == (LogMode.LOG_THEN_DROP if log_oob == "LogThenDrop" else LogMode.IGNORE)
        assert answer.accept == (log_oob == "LogThenDrop")
    says_so = "an MTA could read this address as another one" in answer.because[0].text
    assert says_so == (not answer.accept and (relay_to or log_oob == "LogThenRelay"))


RELAY_FROM = entry("from.example", relay_from=["203.0.113.0/24"])
AUTHZ = entry("from.example", relay_from_authz=["daniel"])


@pytest.mark.parametrize(
    ("rule", "peer", "authz_id", "sender", "relay"),
    [
        (RELAY_FROM, "203.0.113.9", None, "me@from.example", True),
        (RELAY_FROM, "203.0.113.9", None, "me@FROM.example.", True),
        (RELAY_FROM, "203.0.113.9", None, "me@other.example", False),
        (RELAY_FROM, "203.0.113.9", None, "", False),
        (RELAY_FROM, "203.0.113.9", None, "from.example", False),
        (RELAY_FROM, "203.0.113.9", None, '"me@from.example', False),
        (RELAY_FROM, "203.0.113.9", None, "@from.example:me@other.example", False),
        (RELAY_FROM, "203.0.113.9", None, '"me@from.example"@other.example', False),
        (RELAY_FROM, "203.0.113.9", None, "me@other.example (me@from.example", False),
        (RELAY_FROM, "203.0.114.9", None, "me@from.example", False),
        (AUTHZ, "203.0.113.9", "daniel", "me@from.example", True),
        (AUTHZ, "203.0.113.9", "daniel", "me@other.example", False),
        (AUTHZ, "203.0.113.9", "Daniel", "me@from.example", False),
        (AUTHZ, "203.0.113.9", "", "me@from.example", False),
        (AUTHZ, "203.0.113.9", None, "me@from.example", False),
    ],
)
def test_relaying_by_sender(rule: DomainEntry, peer: str, authz_id: str | None, sender: str, relay: bool) -> None:
    """relay_from and relay_from_authz hold only with a sender in that very domain."""
    answer = compile_policy(settings([rule])).at_rcpt(ip_address(peer), ANY_LISTENER, authz_id, sender, "you@else.example")
    assert answer.relay == relay


def test_reasons_name_file_line_and_key() -> None:
    """A reason names the rule that decided: its file, line, key path and value, with a sentence."""
    policy = compile_policy(settings([entry("bounce.example.com", log_oob="LogThenDrop")]))
    (reason,) = policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "x@Bounce.Example.com.").because
    assert (reason.file, reason.line, reason.key, reason.value) == (
        "domains.toml",
        2,
        '"bounce.example.com".log_oob',
        "LogThenDrop",
    )
    assert reason.text == "bounce.example.com accepts bounce reports from any host, logs them and drops them"


def test_an_entry_replaces_a_wider_one() -> None:
    """An entry is not merged with the wildcard it stands beside."""
    policy = compile_policy(
        settings([entry("*.example.com", log_oob="LogThenRelay"), entry("www.example.com", log_oob="Ignore")])
    )
    assert policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "x@mail.example.com").accept
    assert not policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "x@www.example.com").accept


HERE = "127.0.0.1:25"
LOOKUPS = [
    # this listener's map first
    ([("example.com", HERE), ("example.com", ANY_LISTENER)], HERE, "example.com", (HERE, "example.com")),
    ([("example.com", HERE), ("example.com", ANY_LISTENER)], "10.1.1.1:25", "example.com", (ANY_LISTENER, "example.com")),
    ([("*.example.com", HERE), ("a.example.com", ANY_LISTENER)], HERE, "a.example.com", (HERE, "*.example.com")),
    # then the shared map
    ([("other.example", HERE), ("example.com", ANY_LISTENER)], HERE, "example.com", (ANY_LISTENER, "example.com")),
    # then the shared "*", even for a name below a listed top label
    ([("example.com", ANY_LISTENER), ("*", ANY_LISTENER)], HERE, "other.com", (ANY_LISTENER, "*")),
    ([("x.woot.example.com", ANY_LISTENER), ("*", ANY_LISTENER)], HERE, "woot.example.com", (ANY_LISTENER, "*")),
    # a listener's own "*" serves only names whose top label has no other entry in that map
    ([("*", HERE), ("example.com", HERE), ("*", ANY_LISTENER)], HERE, "other.com", (ANY_LISTENER, "*")),
    ([("*", HERE), ("example.com", HERE), ("*", ANY_LISTENER)], HERE, "other.net", (HERE, "*")),
    ([("*", HERE), ("*", ANY_LISTENER)], HERE, "", (HERE, "*")),
    ([("example.com", ANY_LISTENER)], HERE, "", None),
    ([("example.com", ANY_LISTENER), ("*", ANY_LISTENER)], HERE, "[192.0.2.1]", (ANY_LISTENER, "*")),
]


@pytest.mark.parametrize(("listed", "listener", "domain", "found"), LOOKUPS)
def test_lookup(listed: list[tuple[str, str]], listener: str, domain: str, found: tuple[str, str] | None) -> None:
    """The first entry found answers: the listener's own map, the shared map, the shared `*`."""
    answer = compile_policy(settings([entry(*names) for names in listed])).lookup(listener, domain)
    assert (answer and (answer.listener, answer.domain)) == found


CONNECTS = [
    ([], RELAY_HOST, HERE, (True, False)),
    ([], EXTERNAL, HERE, (False, False)),
    ([entry("*", relay_to=False, log_oob="Ignore")], EXTERNAL, HERE, (False, False)),
    ([entry("a.example", relay_to=True)], EXTERNAL, HERE, (True, True)),
    ([entry("a.example", relay_from=["10.0.0.0/8"])], EXTERNAL, HERE, (True, True)),
    ([entry("a.example", relay_from_authz=["daniel"])], EXTERNAL, HERE, (True, True)),
    ([entry("a.example", log_oob="LogThenDrop")], EXTERNAL, HERE, (True, True)),
    ([entry("a.example", log_arf="LogThenRelay")], EXTERNAL, HERE, (True, True)),
    ([entry("a.example", HERE, log_oob="LogThenDrop")], EXTERNAL, HERE, (True, True)),
    # what only another listener permits does not count
    ([entry("a.example", "10.1.1.1:25", log_oob="LogThenDrop")], EXTERNAL, HERE, (False, False)),
    # nor does a shared entry that this listener's own map always answers before
    ([entry("a.example", log_oob="LogThenDrop"), entry("a.example", HERE)], EXTERNAL, HERE, (False, False)),
    ([entry("a.example", log_oob="LogThenDrop"), entry("a.example", HERE)], EXTERNAL, "10.1.1.1:25", (True, True)),
    ([entry("*.a.example", relay_to=True), entry("*.example", HERE)], EXTERNAL, HERE, (False, False)),
    ([entry("*.a.example", relay_to=True), entry("x.y.a.example", HERE), entry("*", HERE)], EXTERNAL, HERE, (True, True)),
    ([entry("*", relay_to=True), entry("*", HERE)], EXTERNAL, HERE, (False, False)),
    ([entry("*", relay_to=True), entry("*", HERE), entry("b.example", HERE)], EXTERNAL, HERE, (True, True)),
]


@pytest.mark.parametrize(("domains", "peer", "listener", "expected"), CONNECTS)
def test_connect(domains: list[DomainEntry], peer: object, listener: str, expected: tuple[bool, bool]) -> None:
    """An external host is deferred if some entry the listener can reach permits anything, and refused at once if none does."""
    policy = compile_policy(settings(domains, relay_hosts=RELAY_HOSTS))
    answer = policy.at_connect(plain_address(str(peer)), listener)
    assert (answer.accept, answer.deferred) == expected
    assert answer.because


@pytest.mark.parametrize(
    ("peer", "listener", "relay"),
    [
        ("192.168.1.7", ANY_LISTENER, True),
        ("::ffff:192.168.1.7", ANY_LISTENER, True),
        ("192.168.2.7", ANY_LISTENER, False),
        ("2001:db8::7", ANY_LISTENER, True),
        ("2001:db9::7", ANY_LISTENER, False),
        ("192.168.1.7", HERE, False),
        ("10.9.9.9", HERE, True),
    ],
)
def test_relay_hosts(peer: str, listener: str, relay: bool) -> None:
    """A listener's own relay_hosts stand in place of the global list; IPv4-mapped peers are their IPv4 address."""
    policy = compile_policy(
        settings(relay_hosts=["192.168.1.0/24", "2001:db8::/32"], listener_relay_hosts={HERE: ["10.0.0.0/8"]})
    )
    answer = policy.at_rcpt(plain_address(peer), listener, None, "a@b.example", "c@d.example")
    assert answer.relay == relay
    assert policy.at_connect(plain_address(peer), listener).accept == relay


def test_default_modes_are_ignore() -> None:
    """A domain that no entry matches takes no reports."""
    answer = compile_policy(settings()).at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "x@example.com")
    assert (answer.relay, answer.log_oob, answer.log_arf) == (False, LogMode.IGNORE, LogMode.IGNORE)


@pytest.mark.parametrize(
    "address", ["<x@y.example>", "x@y.example(", "x y@z.example", "x@y..example", "<<x>@y.example", "x(@y.example"]
)
def test_what_is_no_mailbox_is_granted_nothing(address: str) -> None:
    """An address that MTAs could read in another way is rejected for external hosts even if `*` accepts all."""
    policy = compile_policy(settings([entry("*", relay_to=True, log_oob="LogThenDrop")], relay_hosts=RELAY_HOSTS))
    refused = policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", address)
    assert not refused.accept
    assert "read this address as another one" in refused.because[0].text
    assert policy.at_rcpt(RELAY_HOST, ANY_LISTENER, None, "", address).relay
    assert policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "postmaster").accept


def test_classes() -> None:
    """A policy has the classifier of its settings' rules, and none without rules."""
    assert compile_policy(settings()).classify is None
    classify = compile_policy(settings(bounce_rules=iana_rules())).classify
    assert classify is not None
    assert classify("550 5.1.1 no such user") == "InvalidRecipient"
