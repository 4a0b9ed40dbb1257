"""The words under which a row is found, and the words of a search: one spelling for both.

A word is a letter for its kind, and a value. Owns the kinds, and which characters a word can have. Never reads the database.
"""

import re
from functools import lru_cache
from itertools import islice
from typing import Final

from sidecar.core.names import parents
from sidecar.journal.index.peers import MAPPED, packed
from sidecar.journal.index.row import Row

TOKENIZER: Final = "ascii tokenchars '@.-_:/=+'"
"""The tokenizer of FTS5: it splits at blanks only, because a word has only these characters and those above ASCII."""

_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789@.-_:/=+") | frozenset(range(128, 256))
_MARK: Final = "\0"
# All other characters of ASCII are one. The mark between words, which no row has, becomes a blank.
_CLEAN: Final = bytes(code if code in _KEPT else ord("_" if code else " ") for code in range(256))
# An id is random: these digits differ, and a row is compared with the whole one.
_ID_DIGITS: Final = 16
# A name has few labels, and each is a word.
_PARENTS: Final = 6
_TEXT_WORDS: Final = 64
# It begins and ends with a letter or a digit, and a longer one is several.
_TEXT: Final = re.compile(r"[^\W_](?:[\w@.+=-]{0,62}\w)?")
# The networks of a peer that are words, in hexadecimal digits of an IPv6 address: IPv4's /8, /16, /24 and /32; /32, /48, /64
# and /128.
_IPV4_DIGITS: Final = (32, 30, 28, 26)
_IPV6_DIGITS: Final = (32, 16, 12, 8)
# A search asks for so many words of a network at most, as a power of two: all networks of IPv4 but the widest.
_SPLIT_BITS: Final = 7


def words_of(row: Row) -> str:
    """Return the words of a row, with blanks between them."""
    found = [f"t{row.type}", f"k{row.type}.{row.disposition}"]
    found += [f"{letter}{value}" for letter, value in _single(row) if value]
    addresses = row.addresses
    found += [f"a{address}" for address in addresses]
    # The index has a word once, also if a row has it twice.
    found += [word for domain in {*map(domain_of, addresses)} if domain for word in _domain_words(domain)]
    if (peer := packed(row.peer)) is not None:
        found += _network_words(peer)
    found += text_words(f"{row.reason} {row.peer_name}")
    return clean(_MARK.join(found))


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
    """Return a word, or several with marks between them, with the characters that words have."""
    return word.lower().encode().translate(_CLEAN).decode()


def id_word(text: str) -> str:
    """Return the word of an id."""
    return f"i{text[:_ID_DIGITS]}"


def domain_of(address: str) -> str:
    """Return the domain of an address of a record, in lower case; it can be any text."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def text_words(text: str) -> list[str]:
    """Return the words of a text, some at most."""
    found = dict.fromkeys(_TEXT.findall(text.lower()))
    return [f"w{word}" for word in islice(found, _TEXT_WORDS)]


def network_words(low: bytes, bits: int) -> list[str]:
    """Return the words of which a peer in a network has one, if few networks that are words fill it.

    Otherwise the one word that all its peers have; none if the network is too wide. `low` is the first address, as `packed`,
    and `bits` the length of the prefix in it.
    """
    narrow = min(digits for digits in _digits(low) if 4 * digits >= bits)
    if 4 * narrow - bits <= _SPLIT_BITS:
        first, step = int(low.hex()[:narrow], 16), 1 << (4 * narrow - bits)
        return [f"p{one:0{narrow}x}" for one in range(first, first + step)]
    wide = next((digits for digits in _digits(low) if 4 * digits <= bits), 0)
    return [f"p{low.hex()[:wide]}"] if wide else []


def _network_words(address: bytes) -> list[str]:
    text = address.hex()
    return [f"p{text[:one]}" for one in _digits(address)]


def _digits(address: bytes) -> tuple[int, ...]:
    return _IPV4_DIGITS if address.startswith(MAPPED) else _IPV6_DIGITS


# An address has at most 320 characters.
@lru_cache(maxsize=2048)
def _domain_words(domain: str) -> tuple[str, ...]:
    """Return the words of a domain and of its first parents, but for top-level domains."""
    above = (one for one in islice(parents(domain), _PARENTS) if "." in one)
    return tuple(f"d{one}" for one in (domain, *above))
