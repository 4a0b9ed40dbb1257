"""The domain of an envelope address (RFC 5321 section 4.1.2). Never judges whether the address exists or may be used."""

import re
from functools import lru_cache

from sidecar.core.names import is_ambiguous_domain, normal_domain

NO_DOMAIN = ""
"""The domain of `<>`, of `<postmaster>` and of every address that names none we can read. Only the entry `*` matches it."""

# RFC 5321 section 4.5.3.1.3 allows a path of 256 octets; internationalised ones are seen longer (RFC 6531 section 3.4).
ADDRESS_LIMIT = 1024

# Characters that RFC 5321 wants quoted end an address where we see no end: Postfix reads `user@elsewhere (x@here` as
# `user@elsewhere`, and Sendmail `<user@elsewhere>@here`. Measured, as is what follows.
_LOCAL_PART = re.compile(r'(?>(?:[^\s()<>\[\]:;,\\"]++|"(?>(?:[^\\"]++|\\.)*)")+)')

# A sender is asked for with each recipient, and a recipient some times over. Each takes 3 kB at most.
_KEPT = 256

# MTAs take a domain that is their own off, and look for a route in what is left, in quotes as well: `user%elsewhere`,
# `elsewhere!user` and `user@elsewhere` then go elsewhere.
_ROUTE = re.compile("[%!@]")


@lru_cache(maxsize=_KEPT)
def domain_of(address: str) -> str:
    """Give the normal form of what follows the last `@` outside quotes; a source route is skipped.

    `address` has no angle brackets. What is no domain name at all gives `NO_DOMAIN`, so that nothing narrower than `*`
    can be reached by a name that only the MTA could make sense of; likewise where the local part is none.
    """
    local_part, domain = _split(address)
    return (normal_domain(domain) or NO_DOMAIN) if _LOCAL_PART.fullmatch(local_part) else NO_DOMAIN


def is_text(address: str) -> bool:
    """Tell whether `address` is text that was decoded whole, without control characters, and no longer than any address."""
    return len(address) <= ADDRESS_LIMIT and address.isprintable() and "\ufffd" not in address


def is_readable(address: str) -> bool:
    """Tell whether `address` is one mailbox, or a local part alone (`postmaster`), and nothing that an MTA reads otherwise."""
    local_part, domain = _split(address)
    return domain_of(address) != NO_DOMAIN if domain else _LOCAL_PART.fullmatch(local_part) is not None


def has_route(address: str) -> bool:
    """Tell whether an MTA could find another domain in the local part of `address` than the one that `domain_of` gives."""
    return _ROUTE.search(_split(address)[0]) is not None


def is_ambiguous(address: str) -> bool:
    """Return True if an MTA may map the domain of `address` to other A-labels than `domain_of` does."""
    return not address.isascii() and is_ambiguous_domain(_split(address)[1])


def without_route(address: str) -> str:
    """Take `@a,@b:` off (RFC 5321 section 4.1.1.3), as MTAs do; the colons of an address literal are not its end."""
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
    """Give local part and domain as they were written; without an `@` the domain is empty."""
    mailbox = without_route(address)
    at = _last_at_outside_quotes(mailbox) if '"' in mailbox else mailbox.rfind("@")
    return (mailbox, "") if at < 0 else (mailbox[:at], mailbox[at + 1 :])


def _last_at_outside_quotes(mailbox: str) -> int:
    """Give the index of the `@` that ends the local part, or -1. A backslash inside quotes takes the next character along."""
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
