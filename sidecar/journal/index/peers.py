"""IP addresses of peers as bytes that sort as addresses do, and networks as ranges of them.

Of an address in a record: `core.names`, which reads those of settings, needs ten times as long for each new one.
"""

import socket
from typing import Final

from sidecar.core.settings.values import Network

MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins among IPv6 addresses (RFC 4291 section 2.5.5.2)."""
_IPV4: Final = 4


def packed(peer: str) -> bytes | None:
    """Return an IP address as 16 bytes that sort as addresses do, IPv4 as IPv4-mapped; None if it is none."""
    try:
        if ":" in peer:
            return socket.inet_pton(socket.AF_INET6, peer)
        return MAPPED + socket.inet_pton(socket.AF_INET, peer)
    except (OSError, ValueError):
        return None


def unpacked(peer: bytes) -> str:
    """Return the address that `packed` has made 16 bytes of."""
    if peer.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, peer[12:])
    return socket.inet_ntop(socket.AF_INET6, peer)


def ends(network: Network) -> tuple[bytes, bytes, int]:
    """Return the first and the last address of a network, and the length of the prefix in them, in bits."""
    is_ipv4 = network.version == _IPV4
    first = network.first | (int.from_bytes(MAPPED) << 32 if is_ipv4 else 0)
    bits = network.prefix + (8 * len(MAPPED) if is_ipv4 else 0)
    return first.to_bytes(16), (first | ((1 << (128 - bits)) - 1)).to_bytes(16), bits
