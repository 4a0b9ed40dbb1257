"""The domain of an envelope address (RFC 5321 section 4.1.2). Never decides whether the address exists or is permitted."""

import re
from functools import lru_cache

from sidecar.core.names import is_ambiguous_domain, normal_domain

NO_DOMAIN = ""
"""The domain of `<>`, of `<postmaster>` and of every address without a readable domain. Only the entry `*` matches it."""

# RFC 5321 section 4.5.3.1.3 allows a path of 256 octets; internationalised ones can be longer (RFC 6531 section 3.4).
ADDRESS_LIMIT = 1024

# MTAs end an address at characters that RFC 5321 wants quoted (measured): Postfix reads `user@elsewhere (x@here` as
# `user@elsewhere`, and so does Sendmail with `<user@elsewhere>@here`.
_LOCAL_PART = re.compile(r'(?>(?:[^\s()<>\[\]:;,\\"]++|"(?>(?:[^\\"]++|\\.)*)")+)')

# The policy reads the sender for each recipient, and a recipient several times. Each takes 3 kB at most.
_KEPT = 256

# MTAs remove a domain of their own and look for a route in the rest, also in quotes (measured): `user%elsewhere`,
# `elsewhere!user` and `user@elsewhere` are then relayed.
_ROUTE = re.compile("[%!@]")


@lru_cache(maxsize=_KEPT)
def domain_of(address: str) -> str:
    """Return the normal form of what follows the last `@` outside quotes; a source route is skipped.

    `address` has no angle brackets. If there is no domain name or no valid local part, return `NO_DOMAIN`: an address that only
    the MTA understands matches nothing narrower than `*`.
    """
    local_part, domain = _split(address)
    return (normal_domain(domain) or NO_DOMAIN) if _LOCAL_PART.fullmatch(local_part) else NO_DOMAIN


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
    if not address.startswith("@"):
        return address
    in_literal = False
    for index, character in enumerate(address):
        if character in "[]":
            in_literal = character == "["
        elif character == ":" and not in_literal:
            return address[index + 1 :]
    return address


@lru_cache(maxsize=_KEPT)
def _split(address: str) -> tuple[str, str]:
    mailbox = without_route(address)
    at = _last_at_outside_quotes(mailbox) if '"' in mailbox else mailbox.rfind("@")
    return (mailbox, "") if at < 0 else (mailbox[:at], mailbox[at + 1 :])


def _last_at_outside_quotes(mailbox: str) -> int:
    """Return the index of the `@` that ends the local part, or -1. A backslash inside quotes escapes the next character."""
    last = -1
    quoted = escaped = False
    for index, character in enumerate(mailbox):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = quoted
        elif character == '"':
            quoted = not quoted
        elif character == "@" and not quoted:
            last = index
    return last
