"""Domains that programs map to different A-labels: the sidecar held against Python's IDNA 2003 and Postfix's ICU."""

import ctypes
import ctypes.util
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.names import is_ambiguous_domain, normal_domain, unicode_domain
from sidecar.core.policy import compile_policy
from sidecar.core.policy.address import is_ambiguous
from sidecar.core.settings.values import ANY_LISTENER, LogMode
from tests.building import entry, settings
from tests.core.policy.test_policy import EXTERNAL, RELAY_HOST, RELAY_HOSTS

Encode = Callable[[str], str | None]

# Both joiners are allowed after a virama only (RFC 5892 appendix A).
CONTEXTS = ("a%sb.example", "%s.example", "\u0915\u094d%s\u0937.example")
SHARP = ["gro\u00df.example", "GRO\u1e9e.example", "gro\u00df\u3002example", "a.gro\u00df.example."]
SIGMA = ["\u03b2\u03cc\u03bb\u03bf\u03c2.example"]
JOINED = ["\u0915\u094d\u200d\u0937.example", "\u0915\u094d\u200c\u0937.example"]
CLEAR = ["xn--gro-7ka.example", "XN--GRO-7KA.EXAMPLE", "gross.example", "b\u00fccher.example", "B\u00dcCHER\uff0eexample"]


@pytest.mark.parametrize("domain", [*SHARP, *SIGMA, *JOINED, "a\u3164b.example", "\U0002f868.example"])
def test_ambiguous(domain: str) -> None:
    """A domain with such a character is ambiguous, wherever it stands in the domain."""
    assert normal_domain(domain) is not None
    assert is_ambiguous_domain(domain)
    assert is_ambiguous(f"x@{domain}")
    assert is_ambiguous(f"@a.example:x@{domain}")


@pytest.mark.parametrize(
    "address", [*(f"x@{domain}" for domain in CLEAR), "gro\u00df@example.com", "@gro\u00df.example:x@a.example"]
)
def test_clear(address: str) -> None:
    """A-labels, names that all map alike, and local parts are not ambiguous."""
    assert not is_ambiguous(address)


@pytest.mark.parametrize("mode", list(LogMode))
@pytest.mark.parametrize("recipient", ["x@gro\u00df.example", "x@GRO\u1e9e.example"])
def test_external_hosts_must_write_the_a_label(recipient: str, mode: LogMode) -> None:
    """An ambiguous recipient gets nothing from an external host, and the reason names the spelling that works."""
    policy = compile_policy(
        settings([entry("xn--gro-7ka.example", relay_to=True, log_oob=mode.value)], relay_hosts=RELAY_HOSTS)
    )
    answer = policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", recipient)
    assert not answer.accept
    assert answer.because[0].text.endswith("external hosts must write it as xn--gro-7ka.example")
    assert policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "x@xn--gro-7ka.example").accept
    assert policy.at_rcpt(RELAY_HOST, ANY_LISTENER, None, "", recipient).relay


def test_a_wildcard_grants_nothing_either() -> None:
    """An ambiguous domain that only "*" serves gets nothing."""
    policy = compile_policy(settings([entry("*", relay_to=True)], relay_hosts=RELAY_HOSTS))
    assert not policy.at_rcpt(EXTERNAL, ANY_LISTENER, None, "", "x@gro\u00df.example").accept


def test_unicode_domain() -> None:
    """A-labels are decoded, and what is none stays as it is."""
    assert unicode_domain("*.xn--gro-7ka.example") == "*.gro\u00df.example"
    assert unicode_domain("xn--\u00e9.xn--99999999.example") == "xn--\u00e9.xn--99999999.example"


def idna2003(domain: str) -> str | None:
    """Return a domain in A-labels as IDNA 2003 maps it (RFC 3490), if it is one that can be registered today."""
    try:
        mapped = domain.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        return None
    # Python lowers letters that Unicode 3.2 did not have; IDNA 2008 allows in no domain what it makes of them.
    return mapped if all(map(_may_be_registered, mapped.split("."))) else None


def _may_be_registered(label: str) -> bool:
    try:
        return label.isascii() and (not label.startswith("xn--") or bool(idna.ulabel(label)))
    except idna.IDNAError:
        return False


class _Info(ctypes.Structure):
    """UIDNAInfo of ICU's uidna.h."""

    _fields_ = (
        ("size", ctypes.c_int16),
        ("different", ctypes.c_int8),
        ("reserved", ctypes.c_int8),
        ("errors", ctypes.c_uint32),
        ("more", ctypes.c_int32 * 2),
    )


@cache
def icu(options: int) -> Encode:
    """Return Postfix's own mapping: UTS 46 of this machine's ICU, which Debian's Postfix is linked with."""
    name = ctypes.util.find_library("icuuc")
    assert name is not None, "Debian's Postfix needs libicu"
    found = re.search(r"\d+", name)
    assert found is not None
    library, version = ctypes.CDLL(name), found[0]
    begin, encode = library[f"uidna_openUTS46_{version}"], library[f"uidna_nameToASCII_UTF8_{version}"]
    begin.restype = ctypes.c_void_p
    failure = ctypes.c_int(0)
    handle = ctypes.c_void_p(begin(ctypes.c_uint32(options), ctypes.byref(failure)))
    assert failure.value <= 0
    buffer = ctypes.create_string_buffer(4096)

    def mapped(domain: str) -> str | None:
        text, info = domain.encode(), _Info(size=ctypes.sizeof(_Info))
        failure = ctypes.c_int(0)
        length = encode(handle, text, len(text), buffer, len(buffer), ctypes.byref(info), ctypes.byref(failure))
        wrong = failure.value > 0 or info.errors
        return None if wrong else buffer.raw[:length].decode().removesuffix(".")

    return mapped


TRANSITIONAL, NONTRANSITIONAL = 0, 0x10
MARKED = [
    pytest.param(lambda: idna2003, id="IDNA 2003"),
    pytest.param(lambda: icu(TRANSITIONAL), id="ICU transitional", marks=pytest.mark.mta),
    pytest.param(lambda: icu(NONTRANSITIONAL), id="ICU", marks=pytest.mark.mta),
]


@cache
def encoded() -> list[tuple[str, str, str]]:
    """Return each of these characters in each context, with the domain and the sidecar's own mapping of it."""
    domains = [(character, context % character) for character in characters() for context in CONTEXTS]
    return [(character, domain, own) for character, domain in domains if (own := normal_domain(domain)) is not None]


def characters() -> Iterator[str]:
    """Return each character that a mapping changes or could ignore, and a part of the others."""
    for code in range(0x80, 0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        if category in {"Cn", "Co", "Cs"}:
            continue
        changed = character.casefold() != character or unicodedata.normalize("NFKC", character) != character
        if changed or code % 37 == 0 or code < 0x1200 or category in {"Cc", "Cf", "Mn", "Zs"}:
            yield character


@pytest.mark.parametrize("other", MARKED)
def test_every_character(other: Callable[[], Encode]) -> None:
    """Each character that makes another program find another domain than ours makes the domain ambiguous."""
    encode = other()
    compared, ambiguous = 0, set()
    for character, domain, own in encoded():
        theirs = encode(domain)
        compared += theirs is not None
        if theirs not in {None, own}:
            assert is_ambiguous_domain(domain), f"U+{ord(character):04X}: {own} and {theirs}"
            ambiguous.add(character)
    assert compared > 10_000
    assert "\u1e9e" in ambiguous


ALPHABET = st.one_of(
    st.sampled_from(
        "aA\u00df\u1e9e\u03a3\u03c3\u03c2\u0130\u0131\u0345\u0390\u0149\u01f0\u1e98\u0587\ufb00\u0301\u0308\u0323\u0327.-_*"
    ),
    st.sampled_from(
        "\u3002\uff0e\uff61\u2024\u00ad\u200b\u200c\u200d\u034f\ufe0f\u180b\u115f\uff20\uff05\u094d\u0915\u4e00\uac00\u1100\u1161"
    ),
    st.characters(exclude_categories=["Cs", "Cn", "Co"], min_codepoint=0x80),
)


@pytest.mark.parametrize("other", MARKED)
@given(st.text(ALPHABET, min_size=1, max_size=6).map("{}.example".format) | st.text(ALPHABET, max_size=12))
@example("xn--gro\u00df.example")
def test_any_name(other: Callable[[], Encode], domain: str) -> None:
    """No sequence of characters gives two domains without being ambiguous."""
    own, theirs = normal_domain(domain), other()(domain)
    assert own is None or theirs is None or own == theirs or is_ambiguous_domain(domain)
