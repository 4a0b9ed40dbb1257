"""The open domains as Postfix's and Sendmail's relay control read them.

Owns the two formats, and what they cannot hold. Never writes a file.
"""

from collections.abc import Iterable, Iterator

import idna
from msgspec import Struct

from sidecar.core.open_domains import PARENT_MATCHES, POSTFIX_FILE, OpenDomains, Pattern, boundary, is_literal

_POSTFIX_HEAD = f"""\
# The domains that external hosts may send to. Made by: sidecar export postfix
# Make it again when the listener domains change, and then: postfix reload
# Postfix's main.cf must say:
#   relay_domains = {POSTFIX_FILE}
#   parent_domain_matches_subdomains = {PARENT_MATCHES}
"""
_SENDMAIL_HEAD = """\
# The domains that external hosts may send to. Made by: sidecar export sendmail
# Make it again when the listener domains change, and then build the access map from it and from what else you have there.
# sendmail.mc must give FEATURE(`access_db') the arguments `skip' and `lookupdotdomain'.
"""


class Export(Struct, frozen=True, kw_only=True):
    """A file for the MTA, and the address literals that are left out.

    Sendmail looks them up in parts, and Postfix takes what has a colon for the name of a table, so neither can hold them all.
    """

    text: str
    left_out: tuple[str, ...]


def postfix_relay_domains(domains: OpenDomains) -> Export:
    """Write a pattern file for `relay_domains` (postconf(5)): the first pattern that matches decides, `!` takes a name out.

    Deeper names come first, so an entry stands before the wildcard it is an exception to. `domains.rest` must be None.
    """
    changes = _changes(domains)
    lines = [
        f"{'' if changes[pattern] else '!'}{'.' if pattern.below else ''}{spelled}\n"
        for pattern in sorted(changes, key=_deepest_first)
        if not is_literal(pattern.name)
        for spelled in _spellings(pattern.name)
    ]
    return _export(_POSTFIX_HEAD, lines, changes)


def sendmail_access(domains: OpenDomains) -> Export:
    """Write lines for the access map (Sendmail's cf/README, "access_db"): `To:` a recipient's domain, RELAY or SKIP.

    Sendmail asks for the domain, for what is below its parent (`.parent`), for the parent, and so on upwards; SKIP ends that.
    So a name that has a line needs one for what is below it, too. `domains.rest` must be None.
    """
    changes = _changes(domains)
    lines = []
    for name in sorted({pattern.name for pattern in changes if not is_literal(pattern.name)}, key=_from_the_top):
        for pattern in (Pattern(name=name, below=False), Pattern(name=name, below=True)):
            verdict = "RELAY" if pattern.probe in domains else "SKIP"
            lines.append(f"To:{'.' if pattern.below else ''}{name}\t{verdict}\n")
    return _export(_SENDMAIL_HEAD, lines, changes)


def _export(head: str, lines: Iterable[str], changes: Iterable[Pattern]) -> Export:
    literals = {pattern.name for pattern in changes if is_literal(pattern.name)}
    return Export(text=head + "".join(lines), left_out=tuple(sorted(literals)))


def _changes(domains: OpenDomains) -> dict[Pattern, bool]:
    assert domains.rest is None, "what is open to every name has no boundary"  # noqa: S101 - the caller's slip
    return boundary(domains.__contains__, domains.names)


def _from_the_top(name: str) -> list[str]:
    return name.split(".")[::-1]


def _deepest_first(pattern: Pattern) -> tuple[int, list[str], bool]:
    return -pattern.name.count("."), _from_the_top(pattern.name), pattern.below


def _spellings(name: str) -> Iterator[str]:
    """Give the A-labels, and the U-labels where they differ: Postfix compares an address as the peer spelled it (RFC 6531)."""
    yield name
    if "xn--" in name:
        try:
            spelled = idna.decode(name)
        except idna.IDNAError:
            return
        if spelled != name:
            yield spelled
