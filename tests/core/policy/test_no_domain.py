"""The entry `""`: the null sender and addresses without a domain find it, and what no MTA can read does not."""

from ipaddress import ip_address

import pytest

from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import LogMode
from tests.building import entry, settings

PEER = ip_address("203.0.113.9")
LISTENER = "10.1.1.1:25"
UNREADABLE = ["a b", "user@bad..test", '"never closed@b.test', "user@elsewhere.test (x"]


@pytest.mark.parametrize("recipient", ["", "postmaster", '"quoted"', "@a.test,@b.test:postmaster"])
def test_a_recipient_without_a_domain(recipient: str) -> None:
    """Reports to `<postmaster>` are accepted by the entry `""`, and ordinary mail is not relayed by another entry."""
    policy = compile_policy(settings([entry("", log_oob="LogThenDrop"), entry("*", relay_to=True)]))
    answer = policy.at_rcpt(PEER, LISTENER, None, "", recipient)
    readable = recipient != ""
    assert (answer.accept, answer.relay, answer.log_oob) == (
        readable,
        False,
        LogMode.LOG_THEN_DROP if readable else LogMode.IGNORE,
    )


@pytest.mark.parametrize("sender", ["", "postmaster"])
def test_the_null_sender(sender: str) -> None:
    """`relay_from` of the entry `""` counts for the null sender."""
    policy = compile_policy(settings([entry("", relay_from=["203.0.113.0/24"]), entry("*", relay_to=False)]))
    answer = policy.at_rcpt(PEER, LISTENER, None, sender, "x@a.test")
    assert answer.relay
    assert answer.because[0].key == '"".relay_from'


@pytest.mark.parametrize("address", UNREADABLE)
def test_an_address_that_cannot_be_read(address: str) -> None:
    """It matches only `*`: an MTA could read another domain in it."""
    policy = compile_policy(settings([entry("", relay_from=["203.0.113.0/24"], relay_to=True, log_oob="LogThenDrop")]))
    assert not policy.at_rcpt(PEER, LISTENER, None, address, "x@a.test").relay
    assert not policy.at_rcpt(PEER, LISTENER, None, "x@a.test", address).accept


def test_the_listener_before_the_others() -> None:
    """A listener's own entry `""` counts before that of every listener, and before its `*`."""
    domains = [entry("", log_oob="LogThenDrop"), entry("", LISTENER, log_arf="LogThenDrop"), entry("*", LISTENER)]
    policy = compile_policy(settings(domains))
    assert policy.at_rcpt(PEER, LISTENER, None, "", "postmaster").log_arf is LogMode.LOG_THEN_DROP
    assert policy.at_rcpt(PEER, "10.1.1.2:25", None, "", "postmaster").log_oob is LogMode.LOG_THEN_DROP
