"""Proxies in front of Postfix: which hosts can name any address as that of the peer.

Owns the findings about XCLIENT and the PROXY protocol. The address of a load balancer is not in Postfix's settings.
"""

import ipaddress
from collections.abc import Iterator

from sidecar.commands.doctor.findings import Found, some
from sidecar.commands.doctor.postfix.smtpd import Smtpd
from sidecar.commands.doctor.postfix.tables import networks
from sidecar.commands.doctor.relaying import relay_hosts


def trusted_proxies(smtpd: Smtpd) -> Iterator[Found]:
    """Find relay hosts that can send XCLIENT, and an smtpd that accepts PROXY headers of other networks."""
    proxies, _ = networks(smtpd.text(key := "smtpd_authorized_xclient_hosts"), smtpd.read)
    if both := [
        str(found.ip) if found.size == 1 else str(found) for found in (proxies & relay_hosts(smtpd.sidecar)).iter_cidrs()
    ]:
        text = f"{some(both)} can send XCLIENT and is in relay_hosts: without XCLIENT, every external host behind it relays."
        yield "error", "proxy_trusted", key, text, f"Remove the proxy from relay_hosts, or from {key} if it is no proxy."
    if smtpd.text(key := "smtpd_upstream_proxy_protocol"):
        host = smtpd.name.rpartition(":")[0]
        if not all(map(_is_internal, [host] if host else smtpd.words("inet_interfaces"))):
            text = (
                "Every host that reaches this smtpd can name any address as its own in a PROXY header, also one of relay_hosts."
            )
            fix = "In master.cf, write an internal address of this machine before the port, such as 10.0.0.5:25."
            yield "warning", "proxy_trusted", key, text, fix


def _is_internal(word: str) -> bool:
    """Return True for an address of a private network, and False for a name."""
    try:
        return word in {"loopback-only", "localhost"} or ipaddress.ip_address(word.strip("[]")).is_private
    except ValueError:
        return False
