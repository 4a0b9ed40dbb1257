"""The patterns of the OpenAPI document, and what the program reads."""

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
def test_the_document_promises_what_is_read(pattern: str, read: Callable[[str], object], text: str) -> None:
    """What a pattern takes is an address to us, and none is left out but IPv6 that ends as IPv4 and is not mapped."""
    told = re.search(pattern, text) is not None
    if told or not ("." in text and text.count(":") > 1):
        assert told == is_read(read, text)
