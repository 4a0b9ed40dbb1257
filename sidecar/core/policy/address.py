"""The domain of an envelope address (RFC 5321 section 4.1.2). Never decides whether the address exists or is permitted."""

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

from sidecar.core.names import NO_DOMAIN, UNLISTED, is_ambiguous_domain, normal_domain

# RFC 5321 section 4.5.3.1.3 allows a path of 256 octets; internationalised ones can be longer (RFC 6531 section 3.4).
ADDRESS_LIMIT = 1024

# MTAs end an address at characters that RFC 5321 wants quoted (measured): Postfix reads `user@elsewhere (x@here` as
# `user@elsewhere`, and so does Sendmail with `<user@elsewhere>@here`.
_LOCAL_PART = re.compile(r'(?>(?:[^\s()<>\[\]:;,\\"]++|"(?>(?:[^\\"]++|\\.)*)")+)')

_SOURCE_ROUTE = re.compile(r"@(?>(?:[^:\[]++|\[[^\]]*+\]?)*):")
# Up to the last `@` outside quotes; a backslash inside them escapes the next character.
_TO_LAST_AT = re.compile(r'(?:[^"]|(?>"(?:[^\\"]++|\\(?:.|\Z))*"?))*@', re.DOTALL)

# The policy reads the sender for each recipient, and a recipient several times. Each takes 3 kB at most.
_KEPT = 256

# MTAs remove a domain of their own and look for a route in the rest, also in quotes (measured): `user%elsewhere`,
# `elsewhere!user` and `user@elsewhere` are then relayed.
_ROUTE = re.compile("[%!@]")

# RFC 5321 section 4.5.1: the one address without a domain, in any case.
_POSTMASTER = "Postmaster"

T = TypeVar("T")


def _kept(read: Callable[[str], T]) -> Callable[[str], T]:
    """Keep the results of the latest addresses, except for long ones: a report can name addresses of any length."""
    kept = lru_cache(maxsize=_KEPT)(read)

    @wraps(read)
    def bounded(address: str) -> T:
        return kept(address) if len(address) <= ADDRESS_LIMIT else read(address)

    return bounded


@_kept
def domain_of(address: str) -> str:
    """Return the normal form of what follows the last `@` outside quotes; a source route is skipped.

    `address` has no angle brackets. If there is no domain name or no valid local part, return `NO_DOMAIN`.
    """
    local_part, domain = _split(address)
    return (normal_domain(domain) or NO_DOMAIN) if _LOCAL_PART.fullmatch(local_part) else NO_DOMAIN


def matched_domain(address: str) -> str:
    """Return the domain with which the entry of `address` is found.

    It is `NO_DOMAIN` for `""` and for a local part alone, and `UNLISTED` for an address that only the MTA understands: that
    matches nothing narrower than `*`.
    """
    return UNLISTED if (domain := domain_of(address)) == NO_DOMAIN and address and not is_readable(address) else domain


def is_text(address: str) -> bool:
    """Return True if `address` was decoded without errors, has no control characters, and is not too long."""
    return len(address) <= ADDRESS_LIMIT and address.isprintable() and "\ufffd" not in address


def is_readable(address: str) -> bool:
    """Return True if `address` is one mailbox, or a local part alone (`postmaster`), for every MTA."""
    local_part, domain = _split(address)
    return domain_of(address) != NO_DOMAIN if domain else _LOCAL_PART.fullmatch(local_part) is not None


def has_route(address: str) -> bool:
    """Return True if an MTA could find another domain in the local part of `address`."""
    return _ROUTE.search(_split(address)[0]) is not None


def is_ambiguous(address: str) -> bool:
    """Return True if an MTA can map the domain of `address` to other A-labels."""
    return not address.isascii() and is_ambiguous_domain(_split(address)[1])


def without_route(address: str) -> str:
    """Return `address` without `@a,@b:` (RFC 5321 section 4.1.1.3). Colons in an address literal do not end it."""
    found = _SOURCE_ROUTE.match(address) if address.startswith("@") else None
    return address if found is None else address[found.end() :]


@_kept
def normal_address(address: str) -> str:
    """Return an address as records have it: no source route, the domain in lower case and A-labels.

    An address without a readable domain keeps its spelling; a lone `postmaster` has KumoMTA's.
    """
    local_part, domain = _split(address)
    if not domain:
        return _POSTMASTER if local_part.lower() == _POSTMASTER.lower() else local_part
    normal = normal_domain(domain)
    if normal is None:
        return f"{local_part}@{domain}"
    # RFC 5321 section 4.1.3 spells the tag of an address literal in this way.
    return f"{local_part}@{normal.replace('[ipv6:', '[IPv6:', 1)}"


@_kept
def _split(address: str) -> tuple[str, str]:
    mailbox = without_route(address)
    if '"' in mailbox:
        found = _TO_LAST_AT.match(mailbox)
        return (mailbox, "") if found is None else (found[0][:-1], mailbox[found.end() :])
    at = mailbox.rfind("@")
    return (mailbox, "") if at < 0 else (mailbox[:at], mailbox[at + 1 :])
