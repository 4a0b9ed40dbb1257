"""The domain of an envelope address (RFC 5321 section 4.1.2). Never judges whether the address exists or may be used."""

from sidecar.settings.names import normal_domain

NO_DOMAIN = ""
"""The domain of `<>`, of `<postmaster>` and of every address that names none we can read. Only the entry `*` matches it."""


def domain_of(address: str) -> str:
    """Give the normal form of what follows the last `@` outside quotes; a source route is skipped.

    `address` has no angle brackets. What is no domain name at all gives `NO_DOMAIN`, so that nothing narrower than `*`
    can be reached by a name that only the MTA could make sense of.
    """
    mailbox = _without_route(address) if address.startswith("@") else address
    at = _last_at_outside_quotes(mailbox) if '"' in mailbox else mailbox.rfind("@")
    return NO_DOMAIN if at < 0 else normal_domain(mailbox[at + 1 :]) or NO_DOMAIN


def _without_route(address: str) -> str:
    """Skip `@a,@b:` (RFC 5321 section 4.1.1.3); the colons of an address literal are not its end."""
    in_literal = False
    for index, character in enumerate(address):
        if character in "[]":
            in_literal = character == "["
        elif character == ":" and not in_literal:
            return address[index + 1 :]
    return address


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
