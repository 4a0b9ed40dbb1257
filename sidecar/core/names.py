"""One spelling for each domain, peer and listener, from a file, an MTA or a command line.

Owns normal forms. Never decides what a name is permitted to do.
"""

import ipaddress
import re
from collections.abc import Container, Iterator
from functools import lru_cache

import idna

# RFC 1035 section 2.3.4 allows 255 octets on the wire, 253 in text; an MTA can pass more, and idna need not read it.
DOMAIN_LIMIT = 255

NO_DOMAIN = ""
"""The domain of `<>`, of `<postmaster>`, and of every address without a readable domain."""

UNLISTED = "\0"
"""A label, or a domain, that no file and no address has: it stands for all that are in no file."""

# RFC 1035 section 2.3.4; a label in Unicode is shorter than the same one in ASCII.
LABEL_LIMIT = 63

# Reading an internationalised label takes as long as reading a hundred others; real names have one or two.
_IDN_LABELS_LIMIT = 4

# Names and addresses that are read often, at half a kilobyte at most. Only normal forms are kept, never permissions.
_KEPT = 1024

HIGHEST_PORT = 65535

BELOW = "*."
"""Before a domain: all names below it."""

# RFC 1035 section 2.3.1, and what is seen besides: an underscore, and `*` for the entries of listener domains files.
_LABEL = r"[a-z0-9_*-]{1,63}"
_PLAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
# RFC 5321 section 4.1.3 would let any printable character into a literal; addresses and their tags have only these.
_LITERAL = re.compile(r"\[[a-z0-9.:-]+\]", re.ASCII)

# IDNA 2008 and IDNA 2003 or UTS 46 treat these differently: sharp s (also the capital, before Unicode 15.1), final sigma,
# joiners, fillers, Khmer vowels, and what Unicode corrected after IDNA 2003 (Corrigendum 4).
_DEVIATING = re.compile(
    "[\u00df\u03c2\u1e9e\u200c\u200d\u115f\u1160\u17b4\u17b5\u3164\uffa0\U0002f868\U0002f874\U0002f91f\U0002f95f\U0002f9bf]"
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# One customer has 2^64 IPv6 addresses or more (RFC 6177).
_IPV6_HOST_BITS = 64


def normal_domain(text: str) -> str | None:
    """Return the form in which domains are compared: lower case, A-labels, no trailing dot (RFC 5890, UTS 46).

    None when `text` is no domain name: empty, an empty label, too long, a character that IDNA does not allow, or more than
    four internationalised labels. An address literal (`[192.0.2.1]`) keeps its brackets.
    """
    return None if len(text) > DOMAIN_LIMIT else _normal(text)


@lru_cache(maxsize=_KEPT)
def _normal(text: str) -> str | None:
    domain = text.lower() if text.isascii() else text
    if is_literal(domain):
        return domain if _LITERAL.fullmatch(domain) else None
    domain = domain.removesuffix(".")
    if not domain.isascii():
        domain = _a_labels(domain) or ""
    return domain if _PLAIN.fullmatch(domain) else None


def is_ambiguous_domain(domain: str) -> bool:
    """Return True if programs map this name to different A-labels: `gro\u00df.example` to `xn--gro-7ka` or `gross`."""
    return not domain.isascii() and _DEVIATING.search(domain) is not None


def is_literal(domain: str) -> bool:
    """Return True if `domain` is an address literal (`[192.0.2.1]`)."""
    return domain.startswith("[")


def parents(domain: str) -> Iterator[str]:
    """Yield the parent domains of `domain`, the longest first. An address literal has none: its dots separate no labels."""
    if not is_literal(domain):
        _, dot, rest = domain.partition(".")
        while dot:
            yield rest
            _, dot, rest = rest.partition(".")


def lineage(name: str) -> Iterator[str]:
    """Yield `name` and its parent domains, the longest first; nothing for ""."""
    if name:
        yield name
        yield from parents(name)


def most_specific(names: Container[str], domain: str) -> str | None:
    """Return the name that is nearest to a domain in normal form: its own, or a parent with `*.`. None if there is none."""
    if domain in names:
        return domain
    return next((name for one in parents(domain) if (name := f"{BELOW}{one}") in names), None)


def unicode_domain(domain: str) -> str:
    """Return a domain in A-labels with U-labels instead; a label that is no A-label stays as it is."""
    return ".".join(map(_u_label, domain.split(".")))


def _u_label(label: str) -> str:
    try:
        return label[4:].encode().decode("punycode") if label.startswith("xn--") else label
    except UnicodeError:
        return label


def _a_labels(domain: str) -> str | None:
    """Return an internationalised domain in A-labels; ASCII labels stay, because `_x` and `*` are no IDNA labels."""
    # Before the mapping, which can make more labels of one (U+3002 is a dot), and afterwards.
    if _idn_labels(domain) > _IDN_LABELS_LIMIT:
        return None
    try:
        mapped = idna.uts46_remap(domain, std3_rules=False).removesuffix(".")
        # A look-alike (U+FF0A) must not become the wildcard.
        if mapped.count("*") != domain.count("*"):
            return None
        labels = mapped.split(".")
        if _idn_labels(mapped) > _IDN_LABELS_LIMIT or max(map(len, labels)) > LABEL_LIMIT:
            return None
        return ".".join(label if label.isascii() else _a_label(label) for label in labels)
    except idna.IDNAError:
        return None


def _idn_labels(domain: str) -> int:
    return sum(not label.isascii() for label in domain.split("."))


@lru_cache(maxsize=_KEPT)
def _a_label(label: str) -> str:
    return idna.alabel(label).decode("ascii")


@lru_cache(maxsize=4096)
def plain_address(text: str) -> IPAddress:
    """Parse an IP address; an IPv4-mapped IPv6 address becomes its IPv4 address. Raise ValueError."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return the key under which every limit counts a peer: its IPv4 address in 8 hex digits, its IPv6 /64 in 16.

    Raise ValueError if `address` is no IP address.
    """
    peer = plain_address(address)
    if isinstance(peer, ipaddress.IPv4Address):
        return f"{int(peer):08x}"
    return f"{int(peer) >> _IPV6_HOST_BITS:016x}"


def split_endpoint(text: str) -> tuple[IPAddress, int | None]:
    """Parse `IP`, `IP:port`, `[IPv6]:port` or a bare IPv6 address. Raise ValueError with the reason."""
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::(\d{1,5}))?", text, re.ASCII)
    dotted = re.fullmatch(r"([0-9.]+):(\d{1,5})", text, re.ASCII)
    host, port = (found[1], found[2]) if (found := bracketed or dotted) else (text, None)
    number = int(port) if port is not None else None
    if number is not None and number > HIGHEST_PORT:
        raise ValueError(f"{text!r} has port {number}; the highest is {HIGHEST_PORT}")
    return plain_address(host), number


def endpoint(address: IPAddress, port: int | None) -> str:
    """Return `IP:port`, or the address alone without a port; an IPv6 address is in brackets."""
    host = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    return host if port is None else f"{host}:{port}"


def normal_listener(text: str) -> str:
    """Return the one spelling of a listener, `IP:port` or `[IPv6]:port`. Raise ValueError if it is none."""
    address, port = split_endpoint(text)
    if port is None:
        raise ValueError(f"{text!r} has no port; a listener is IP:port, such as 127.0.0.1:25 or [::1]:25")
    return endpoint(address, port)
