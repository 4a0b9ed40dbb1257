"""Single values: what is taken and how it is held, what is refused and how that is said."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import readers, sockets
from sidecar.config.readers import Fault, WrongValue, network

SOCKET = sockets.socket_in(Path("/etc/sidecar"), "a milter socket")


def fault(reader: readers.Reader[Any], value: object) -> Fault:
    """Give the one fault that a reader finds."""
    with pytest.raises(WrongValue) as caught:
        reader(value)
    (only,) = caught.value.faults
    return only


@pytest.mark.parametrize(
    ("written", "version", "first", "prefix"),
    [
        ("127.0.0.1", 4, "127.0.0.1", 32),
        ("192.168.1.0/24", 4, "192.168.1.0", 24),
        ("0.0.0.0/0", 4, "0.0.0.0", 0),  # noqa: S104 - a network, not an address to listen on
        ("::1", 6, "::1", 128),
        ("2001:DB8::/32", 6, "2001:db8::", 32),
        ("::/0", 6, "::", 0),
        ("::ffff:192.168.1.7", 4, "192.168.1.7", 32),
        ("::ffff:192.168.1.0/120", 4, "192.168.1.0", 24),
        ("::ffff:0:0/96", 4, "0.0.0.0", 0),  # noqa: S104 - likewise
        ("::fffe:0:0/95", 6, "::fffe:0:0", 95),
    ],
)
def test_networks(written: str, version: int, first: str, prefix: int) -> None:
    """A literal or a block is held as numbers, an IPv4-mapped one as the IPv4 network it stands for."""
    found = network(written)
    assert (found.text, found.version, found.first, found.prefix) == (
        written,
        version,
        int(ipaddress.ip_address(first)),
        prefix,
    )


@pytest.mark.parametrize(
    ("written", "host", "block"),
    [
        ("192.168.1.1/24", "192.168.1.1", "192.168.1.0/24"),
        ("10.0.0.1/8", "10.0.0.1", "10.0.0.0/8"),
        ("2001:db8::1/64", "2001:db8::1", "2001:db8::/64"),
    ],
)
def test_host_bits(written: str, host: str, block: str) -> None:
    """Host bits are an error, whose fix names the network and the host."""
    found = fault(network, written)
    assert found.text == f'"{written}" has host bits set: {host} is one address inside {block}.'
    assert found.fix == f'Write "{block}" for the network or "{host}" for the one host.'


@pytest.mark.parametrize(
    "written",
    [
        "10/8", "127.1", "10", "167772160", "0x0a000000", "010.0.0.0/8", "10.0.0.0/255.0.0.0", "10.0.0.0/0.255.255.255",
        " 10.0.0.0/8", "10.0.0.0/8 ", "10.0.0.0/ 8", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/33",
        "10.0.0.0/\uff18", "10.0.0.0/8/8", "1.2.3.4\n", "fe80::1%eth0", "fe80::1%eth0/64", "[::1]", "::1/129", "::1/::ffff", "",
        "localhost", "1.2.3.4:25", "256.1.1.1",
    ],
)  # fmt: skip
def test_no_networks(written: str) -> None:
    """Short forms, netmasks, zones, blanks and names are no networks."""
    assert fault(network, written).text.endswith(" is neither an IP address nor a network.")


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_networks_agree(address: int, prefix: int) -> None:
    """A block is taken exactly when it has no host bits, and the network that a fix names is always taken."""
    written = f"{ipaddress.IPv4Address(address)}/{prefix}"
    strict = ipaddress.ip_network(written, strict=False)
    if int(strict.network_address) == address:
        assert (network(written).first, network(written).prefix) == (address, prefix)
    else:
        meant = fault(network, written).fix.split('"')[1]
        assert network(meant).first == int(strict.network_address)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("unix:/run/sidecar/sidecar.sock", "unix:/run/sidecar/sidecar.sock"),
        ("local:/run/sidecar/sidecar.sock", "unix:/run/sidecar/sidecar.sock"),
        ("unix:sidecar.sock", "unix:/etc/sidecar/sidecar.sock"),
        ("inet:127.0.0.1:8893", "inet:127.0.0.1:8893"),
        ("inet:8893@127.0.0.1", "inet:127.0.0.1:8893"),
        ("inet:[::1]:8893", "inet:[::1]:8893"),
        ("inet6:8893@::1", "inet:[::1]:8893"),
        ("inet6:8893@[::1]", "inet:[::1]:8893"),
        ("inet:LocalHost:8893", "inet:localhost:8893"),
    ],
)
def test_sockets(written: str, normal: str) -> None:
    """Postfix's and Sendmail's spellings of a socket come to one."""
    assert SOCKET(written) == normal
    assert SOCKET(normal) == normal


@pytest.mark.parametrize(
    ("written", "text", "fix"),
    [
        ("/run/a.sock", '"/run/a.sock" is not a milter socket.', 'Write "unix:/run/a.sock".'),
        ("inet:8893", '"inet:8893" is not a milter socket.', sockets._SOCKET_FORMS),
        ("inet:::1:8893", '"inet:::1:8893" is not a milter socket.', sockets._SOCKET_FORMS),
        ("inet:127.1:8893", '"127.1" is neither an IP address nor a host name.', sockets._SOCKET_FORMS),
        ("inet:a b:8893", '"a b" is neither an IP address nor a host name.', sockets._SOCKET_FORMS),
        ("inet:127.0.0.1:0", '"inet:127.0.0.1:0" has port 0.', "Write a port from 1 to 65535."),
        ("inet:127.0.0.1:65536", '"inet:127.0.0.1:65536" has port 65536.', "Write a port from 1 to 65535."),
        ("unix:/\x1b", '"unix:/\\u001b" is not a milter socket.', sockets._SOCKET_FORMS),
        ("unix:/" + "x" * 107, f'"/{"x" * 59}..." is too long for a socket.', "Write a path of 107 bytes at most."),
        (8893, "8893 is not a milter socket.", sockets._SOCKET_FORMS),
    ],
)
def test_no_sockets(written: object, text: str, fix: str) -> None:
    """What is no socket says so, and what to write."""
    found = fault(SOCKET, written)
    assert (found.text, found.fix) == (text, fix)


@pytest.mark.parametrize(
    ("reader", "value", "text"),
    [
        (readers.flag, 1, "1 is neither true nor false."),
        (readers.flag, "true", '"true" is neither true nor false.'),
        (readers.whole_number(1, 64, "processes"), True, "true is not a whole number."),
        (readers.whole_number(1, 64, "processes"), 2.0, "2.0 is not a whole number."),
        (readers.whole_number(1, 64, "processes"), 0, "0 is out of range."),
        (readers.whole_number(1, 64, "processes"), 65, "65 is out of range."),
        pytest.param(readers.whole_number(1, 64, "processes"), 1 << 50_000, "a huge number is out of range.", id="huge"),
        (readers.text("a name"), "", '"" is not a name.'),
        (readers.text("a name"), "a\nb", '"a\\u000ab" is not a name.'),
        (readers.text("a name"), "\ud800", '"\\ud800" is not a name.'),
        (readers.text("a name"), {"a": 1}, "a table is not a name."),
        (readers.choice("auto", "json"), "jsn", '"jsn" is not one of "auto" or "json".'),
        (readers.choice("auto", "json"), None, 'null is not one of "auto" or "json".'),
        (sockets.socket_mode, "660", None),
        (sockets.socket_mode, "0777", None),
        (sockets.socket_mode, "0o660", '"0o660" is not a file mode.'),
        (sockets.socket_mode, "1777", '"1777" is not a file mode.'),
        (sockets.socket_mode, "0888", '"0888" is not a file mode.'),
        (sockets.socket_mode, 0o660, "432 is not a file mode."),
        (readers.header_name, "X-KumoRef", None),
        (readers.header_name, "X Y", '"X Y" is not the name of a header.'),
        (readers.header_name, "X-*", None),
        (readers.header_name, "*", None),
        (readers.header_name, "X-*-Y", '"X-*-Y" is not the name of a header.'),
        (readers.header_name, "", '"" is not the name of a header.'),
        (readers.uuid, "0F1C9B1E-52A4-4D43-9B1F-6A1F5F1A7C11", None),
        (readers.uuid, "{0f1c9b1e-52a4-4d43-9b1f-6a1f5f1a7c11}", '"{0f1c9b1e-52a4-4d43-9b1f-6a1f5f1a7c11}" is not a UUID.'),
        (readers.uuid, 1, "1 is not a UUID."),
        (readers.unused_duration, "5 minutes", None),
        (readers.unused_duration, 300, None),
        (readers.unused_duration, True, "true is not a duration."),
    ],
)  # fmt: skip
def test_values(reader: readers.Reader[Any], value: object, text: str | None) -> None:
    """Types are strict, ranges are kept, and bad values are shown in short and without control characters."""
    if text is None:
        reader(value)
    else:
        assert fault(reader, value).text == text
