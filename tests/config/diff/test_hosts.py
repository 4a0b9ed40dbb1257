"""Relay hosts compared as sets of addresses."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.diff.hosts import AddressSpace, host_changes, is_wide
from sidecar.core.networks import Networks
from sidecar.core.settings.values import Network
from tests.building import network
from tests.config.diff.sides import side


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (["10.0.0.0/8"], ["10.0.0.0/8"], []),
        (["10.0.0.0/8", "::1"], ["::1", "10.0.0.0/8"], []),
        ([], ["10.1.0.0/16"], [("added", "opens", "10.1.0.0/16")]),
        (["10.1.0.0/16"], [], [("removed", "closes", "10.1.0.0/16")]),
        (["10.0.0.0/8"], ["10.0.0.0/8", "10.1.0.0/16"], [("added", "neither", "10.1.0.0/16")]),
        (["10.0.0.0/8", "10.1.0.0/16"], ["10.0.0.0/8"], [("removed", "neither", "10.1.0.0/16")]),
        # Two halves are the whole.
        (["10.0.0.0/9", "10.128.0.0/9"], ["10.0.0.0/8"], [
            ("added", "neither", "10.0.0.0/8"),
            ("removed", "neither", "10.0.0.0/9"),
            ("removed", "neither", "10.128.0.0/9"),
        ]),
        (["10.0.0.0/8"], ["10.1.0.0/16"], [("added", "neither", "10.1.0.0/16"), ("removed", "closes", "10.0.0.0/8")]),
        # An IPv6 network is none of IPv4's, whatever their numbers.
        (["0.0.0.0/0"], ["0.0.0.0/0", "::1"], [("added", "opens", "::1")]),
    ],
)  # fmt: skip
def test_networks(old: list[str], new: list[str], told: list[tuple[str, str, str]]) -> None:
    """Each network that came or went is told, and whether that changes who may relay."""
    changes = list(host_changes(side(relay_hosts=old), side(relay_hosts=new)))
    assert [(change.action, change.effect, (change.new or change.old).value) for change in changes] == told  # type: ignore[union-attr]  # one is there
    assert all(change.text.startswith("no effect") == (change.effect == "neither") for change in changes)


def test_what_is_left_of_a_network_is_not_called_lost() -> None:
    """Where other networks hold a part of one that went, the text says so."""
    (_, gone) = host_changes(side(relay_hosts=["10.0.0.0/8"]), side(relay_hosts=["10.1.0.0/16"]))
    assert gone.text == "10.0.0.0/8 can no longer relay, except for addresses in other networks of the list"


@pytest.mark.parametrize(
    ("text", "danger"),
    [
        ("0.0.0.0/0", True),
        ("0.0.0.0/1", True),
        ("10.0.0.0/8", False),
        ("::/0", True),
        ("2000::/3", True),
        ("2001:db8::/32", False),
    ],
)
def test_danger(text: str, danger: bool) -> None:
    """A network that is most of the internet is marked, and only that."""
    (change,) = host_changes(side(relay_hosts=[]), side(relay_hosts=[text]))
    assert (change.danger, change.effect) == (danger, "opens")
    assert is_wide(network(text)) == danger


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # A list of its own stands in the place of the global one.
        ({}, {"10.1.1.1:25": ["10.0.0.0/8"]}, [("added", "opens"), ("removed", "closes")]),
        ({"10.1.1.1:25": ["10.0.0.0/8"]}, {}, [("added", "opens"), ("removed", "closes")]),
        ({}, {"10.1.1.1:25": ["127.0.0.1"]}, [("added", "neither")]),
        ({"10.1.1.1:25": ["127.0.0.1"]}, {}, [("removed", "neither")]),
        ({"10.1.1.1:25": ["127.0.0.1"]}, {"10.1.1.1:25": ["127.0.0.1"]}, []),
        ({"10.1.1.1:25": []}, {"10.1.1.1:25": ["::1"]}, [("added", "opens")]),
    ],
)
def test_listeners(old: dict[str, list[str]], new: dict[str, list[str]], told: list[tuple[str, str]]) -> None:
    """A listener's own list is compared with the one that held there before, the global one if need be."""
    before, after = (side(relay_hosts=["127.0.0.1"], listener_relay_hosts=own) for own in (old, new))
    changes = list(host_changes(before, after))
    assert [(change.action, change.effect) for change in changes] == told
    assert all(change.listener == "10.1.1.1:25" for change in changes)
    assert all(change.key == 'listener."10.1.1.1:25".relay_hosts' for change in changes)


def test_a_new_list_is_compared_with_what_held_before() -> None:
    """The global list of before stands for a listener that had none of its own, whatever becomes of it."""
    before = side(relay_hosts=["10.0.0.0/8"])
    after = side(relay_hosts=["172.16.0.0/12"], listener_relay_hosts={"10.1.1.1:25": ["10.0.0.0/8", "172.16.0.0/12"]})
    own = [change for change in host_changes(before, after) if change.listener is not None]
    assert [(change.action, change.new and change.new.value) for change in own] == [("added", "172.16.0.0/12")]


small = st.builds(
    lambda first, prefix: Network(text="x", version=4, first=(first >> (32 - prefix)) << (32 - prefix), prefix=prefix),
    st.integers(0, 40),
    st.integers(26, 32),
)


@given(st.lists(small, max_size=8), small)
def test_space(networks: list[Network], one: Network) -> None:
    """A space holds a network, or touches it, exactly if its networks hold all of its addresses, or one."""
    members = Networks(networks)
    addresses = range(one.first, one.first + (1 << (32 - one.prefix)))
    held = [members.find(ip_address(address)) is not None for address in addresses]
    space = AddressSpace(networks)
    assert (space.holds(one), space.touches(one)) == (all(held), any(held))
