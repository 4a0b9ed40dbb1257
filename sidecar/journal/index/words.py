"""The words under which a row is found, and the words of a search: one spelling for both.

A word is a letter for its kind, and a value. Owns the kinds, and which characters a word can have. Never reads the database.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from sidecar.core.names import parents
from sidecar.journal.index.peers import MAPPED, packed
from sidecar.journal.index.row import Row

TOKENIZER: Final = "ascii tokenchars '@.-_:/=+'"
"""The tokenizer of FTS5: it splits at blanks only, because a word has only these characters and those above ASCII."""

# All other characters of ASCII are one. The mark between words, which no row has, becomes a blank.
_MARK: Final = "\0"
_OTHERS: Final = {code: "_" for code in range(128) if not (chr(code).isalnum() or chr(code) in "@.-_:/=+")}
_JOINED: Final = _OTHERS | {ord(_MARK): " "}
# An id is random: these digits differ, and a row is compared with the whole one.
_ID_DIGITS: Final = 16
# A name has few labels, and each is a word.
_PARENTS: Final = 6
_TEXT_WORDS: Final = 64
_LONGEST: Final = 64
_TEXT: Final = re.compile(r"\w+(?:[@.+=-]+\w+)*")
# The networks of a peer that are words, in hexadecimal digits of an IPv6 address: IPv4's /8, /16, /24 and /32; /32, /48, /64
# and /128.
_IPV4_DIGITS: Final = (32, 30, 28, 26)
_IPV6_DIGITS: Final = (32, 16, 12, 8)


def words_of(row: Row) -> str:
    """Return the words of a row, with blanks between them."""
    found = [f"t{row.type}", f"k{row.type}.{row.disposition}"]
    found += [f"{letter}{value}" for letter, value in _single(row) if value]
    domains = dict[str, None]()
    for address in row.addresses:
        found.append(f"a{address}")
        if (domain := domain_of(address)) and domain not in domains:
            domains[domain] = None
            domains |= dict.fromkeys(_with_dot(parents(domain)))
    found += [f"d{domain}" for domain in domains]
    if (peer := packed(row.peer)) is not None:
        found += _network_words(peer)
    found += [f"w{word}" for word in text_words(f"{row.reason} {row.peer_name}")]
    return _MARK.join(found).translate(_JOINED).lower()


def _single(row: Row) -> tuple[tuple[str, str], ...]:
    return (
        ("o", row.disposition),
        ("i", row.id[:_ID_DIGITS]),
        ("i", row.message_id[:_ID_DIGITS]),
        ("i", row.session_id[:_ID_DIGITS]),
        ("i", row.original_id[:_ID_DIGITS]),
        ("q", row.queue_id),
        ("b", row.bounce_class),
        ("f", row.feedback_type),
        ("v", row.verified),
        ("r", row.reporter),
    )


def clean(word: str) -> str:
    """Return a word with the characters that words have."""
    return word.translate(_OTHERS).lower()


def id_word(text: str) -> str:
    """Return the word of an id."""
    return f"i{text[:_ID_DIGITS]}"


def domain_of(address: str) -> str:
    """Return the domain of an address of a record, in lower case; it can be any text."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def text_words(text: str) -> list[str]:
    """Return the different words of a text, in lower case, some at most."""
    return [*dict.fromkeys([word[:_LONGEST] for word in _TEXT.findall(text.lower())])][:_TEXT_WORDS]


def network_word(low: bytes, bits: int) -> str:
    """Return the word of the narrowest network that is one and has this one in it; "" if that is too wide.

    `low` is the first address, as `packed`, and `bits` the length of the prefix in it.
    """
    digits = next((one for one in _digits(low) if 4 * one <= bits), 0)
    return f"p{low.hex()[:digits]}" if digits else ""


def _network_words(address: bytes) -> list[str]:
    text = address.hex()
    return [f"p{text[:one]}" for one in _digits(address)]


def _digits(address: bytes) -> tuple[int, ...]:
    return _IPV4_DIGITS if address.startswith(MAPPED) else _IPV6_DIGITS


def _with_dot(domains: Iterable[str]) -> Iterator[str]:
    """Yield the first domains that are more than a top-level domain."""
    for number, domain in enumerate(domains):
        if number == _PARENTS or "." not in domain:
            return
        yield domain
