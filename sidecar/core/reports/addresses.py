"""Addresses in reports: as mailboxes of RFC 5321, and as programs write them besides.

Owns the normal form: no brackets, no source route, the domain in lower case with A-labels, as KumoMTA writes it.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TypeVar

import idna

from sidecar.core.names import LABEL_LIMIT


def wide_set(characters: str) -> str:
    """Return the set of a regular expression with these ASCII characters and all characters beyond ASCII.

    The set names the ASCII characters that it does not have: `re` compiles a set that ends at U+10FFFF far slower.
    """
    named = re.compile(f"[{characters}]")
    return "[^" + "".join(re.escape(chr(code)) for code in range(0x80) if named.match(chr(code)) is None) + "]"


_ATOM = wide_set(r"!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~") + "++"
_LABEL = wide_set("0-9A-Za-z") + wide_set(r"0-9A-Za-z_\-") + "*+"
_QUOTED_TEXT = wide_set(r" !#-\[\]-~")
_DOMAIN = rf"{_LABEL}(?>(?:\.{_LABEL})*)"
_QUOTED = rf'"(?>(?:\\[ -~]|{_QUOTED_TEXT})*)"'
_MAILBOX = re.compile(
    rf"(?P<bracket><(?:@{_DOMAIN}(?>(?:,@{_DOMAIN})*):)?)?"
    rf"(?P<local>{_ATOM}(?>(?:\.{_ATOM})*)|{_QUOTED})"
    rf"@(?:\[(?P<literal>[^\[\]\\]*)\]|(?P<domain>{_DOMAIN}))(?(bracket)>)"
)
# Most addresses are in their normal form. This costs a fifth of the complete grammar.
_NORMAL = re.compile(r"[a-z0-9_+=-]++(?>(?:\.[a-z0-9_+=-]++)*)@[a-z0-9][a-z0-9-]*+(?>(?:\.[a-z0-9][a-z0-9-]*+)*)")
_POSTMASTER = re.compile(r"postmaster|<postmaster>", re.IGNORECASE | re.ASCII)
_TAGGED = re.compile(r"[0-9A-Za-z-]++:[!-Z^-~]++")
_IPV6_TAG = "ipv6:"
# RFC 1035 section 2.3.4, without a dot at the end.
_DOMAIN_LIMIT = 253
_PREFIX = "xn--"
# Mapping such a label takes as long as reading a hundred others; real names have one or two.
_IDN_LABELS_LIMIT = 4

# A report is about one message, and MTAs accept about a thousand recipients per message (Postfix and Exim: 1000 or less).
# Each makes a record, so this also bounds the records of one message.
RECIPIENT_LIMIT = 1000
IDN_RECIPIENT_LIMIT = 100
"""Of those with an internationalised address, which takes up to 1 ms. Most reports of such an address name one."""

T = TypeVar("T")

# Of comments in comments: RFC 5322 allows them, but mail programs write none. Each level is one more pass.
_NESTING_LIMIT = 4
_COMMENT = re.compile(r"\([^()]*+\)")
_BRACKETED = re.compile(r"<([^<>]*+)>")
_SPACED = re.compile(r"[^\s@]++ ?@ ?[^\s@]++")
# An address between other words. `"a@b"@c` and `a@b@c` do not have the address `a@b`.
_BETWEEN_WORDS = r"\s<>()\[\]:;,\""
_AMONG_WORDS = re.compile(rf"(?<![^{_BETWEEN_WORDS}])([^{_BETWEEN_WORDS}@\\]++@{_DOMAIN})(?![\"']?@)")
# Gateways put the type in front of an address that has one, and web programs a scheme.
_PREFIXES = re.compile(r"\A(?>(?:(?:rfc822|utf-8)[ ]*;[ ]*|mailto:)*)", re.IGNORECASE)


def within_limits(items: Iterable[T], addresses: Callable[[T], Iterable[str]]) -> list[T]:
    """Return the first items of a report, each of which has some addresses, up to the limits of recipients."""
    kept, internationalised = [], 0
    for item in islice(items, RECIPIENT_LIMIT):
        is_ascii = all(map(str.isascii, addresses(item)))
        internationalised += not is_ascii
        if is_ascii or internationalised <= IDN_RECIPIENT_LIMIT:
            kept.append(item)
    return kept


def mailbox(text: str) -> str:
    """Return an envelope address in its normal form; `<>` and nothing are `""`. Raise ValueError if it is none."""
    if len(text) <= LABEL_LIMIT and _NORMAL.fullmatch(text):
        return text
    if text in {"", "<>"}:
        return ""
    if _POSTMASTER.fullmatch(text):
        return "Postmaster"
    found = _MAILBOX.fullmatch(text)
    if found is None:
        raise ValueError(text)
    domain = _domain(found["domain"]) if found["literal"] is None else _literal(found["literal"])
    return f"{found['local']}@{domain}"


def is_mailbox(text: str) -> bool:
    """Return True if a text is a mailbox, whatever its domain looks like."""
    return _MAILBOX.fullmatch(text) is not None


def readable_address(text: str) -> str:
    """Return an address in its normal form, without comments, brackets, types, `mailto:`, what follows a `;`, and other words.

    If that is no mailbox (`redacted`), or there are several, return what is left of the text.
    """
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    try:
        return mailbox(text)
    except ValueError:
        written = text
    quoted, quote, rest = _PREFIXES.sub("", text).rpartition('"')
    uncommented = f"{quoted}{quote}{without_comments(rest)}".strip()
    text = f"{quoted}{quote}{without_comments(rest).partition(';')[0]}".strip()
    found = _BRACKETED.search(text) if text.startswith("<") or text.endswith(">") else None
    text = _PREFIXES.sub("", text.strip("<>") if found is None else found[1].strip())
    if found is not None or _SPACED.fullmatch(text):
        text = text.replace(" ", "") if '"' not in text else text
    with suppress(ValueError):
        if text and text != written:
            return mailbox(text)
    return _among_words(uncommented) or text


def _among_words(text: str) -> str | None:
    """Return the only address in a text, in its normal form, or None."""
    found = {address.lstrip("'") for address in _AMONG_WORDS.findall(text)}
    try:
        return mailbox(found.pop()) if len(found) == 1 else None
    except ValueError:
        return None


def without_comments(text: str) -> str:
    """Return a text with a space for each comment. A comment that does not end is one, too."""
    if "(" in text:
        for _ in range(_NESTING_LIMIT):  # from the innermost outwards
            text = _COMMENT.sub(" ", text)
        text = text.partition("(")[0]
    return text


def _domain(text: str) -> str:
    """Return a domain in A-labels (UTS 46). With an underscore its case stays: KumoMTA's DNS library does not map it then."""
    labels = text.split(".")
    if sum(not label.isascii() for label in labels) > _IDN_LABELS_LIMIT:
        raise ValueError(text)
    mapped = text if "_" in text else ".".join(map(_a_label, labels))
    if not mapped.isascii() or len(mapped) > _DOMAIN_LIMIT or max(map(len, mapped.split("."))) > LABEL_LIMIT:
        raise ValueError(text)
    return mapped


def _a_label(label: str) -> str:
    if label.isascii():
        return label.lower()
    if len(label) > LABEL_LIMIT:
        raise ValueError(label)
    mapped = idna.uts46_remap(label, std3_rules=True)
    if "." in mapped:  # U+3002 is a dot
        raise ValueError(label)
    if mapped.isascii():
        return mapped
    # Each of its characters becomes one or more in Punycode, which takes longer than all else.
    if len(mapped) > LABEL_LIMIT - len(_PREFIX):
        raise ValueError(label)
    return f"{_PREFIX}{mapped.encode('punycode').decode()}"


def _literal(text: str) -> str:
    if text.lower().startswith(_IPV6_TAG):
        number = ipaddress.IPv6Address(text[len(_IPV6_TAG) :])
        if number.scope_id is not None:
            raise ValueError(text)
        return f"[IPv6:{f'::ffff:{number.ipv4_mapped}' if number.ipv4_mapped else number}]"
    if _TAGGED.fullmatch(text):
        return f"[{text}]"
    return f"[{ipaddress.IPv4Address(text)}]"
