"""The patterns of the OpenAPI document match the addresses that the program reads."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.names import normal_listener, split_endpoint
from sidecar.daemon.http.questions import LISTENER, PEER

_HOSTS = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).flatmap(
    lambda one: st.sampled_from([str(one), one.exploded, str(one).upper()]).map("[{}]".format)
)
_PORTS = st.integers(0, 70000) | st.sampled_from(["", "00025", "65535", "65536"])
_NEAR = st.lists(st.sampled_from(["::", ":", "1", "ab", "ffff", "192.0.2.1", "[", "]", ":25"]), max_size=10).map("".join)
_ENDPOINTS = st.builds("{}:{}".format, _HOSTS, _PORTS) | _HOSTS | _HOSTS.map(lambda host: host.strip("[]")) | _NEAR


def is_read(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("pattern", "read"), [(PEER, split_endpoint), (LISTENER, normal_listener)], ids=["peer", "listener"])
@given(text=_ENDPOINTS)
def test_the_patterns_match_what_the_program_reads(pattern: str, read: Callable[[str], object], text: str) -> None:
    """They match no other text, and all addresses except IPv6 with an IPv4 end that is not mapped."""
    matches = re.search(pattern, text) is not None
    if matches or not ("." in text and text.count(":") > 1):
        assert matches == is_read(read, text)
