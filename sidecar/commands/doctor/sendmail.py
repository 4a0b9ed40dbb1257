"""What Sendmail was told, read from its sendmail.cf and the text of its access map.

Owns the syntax (Sendmail Installation and Operation Guide, section 5) and the look-ups of cf/README. Never judges a setting.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations
from msgspec import Struct

from sidecar.commands.doctor.networks import block
from sidecar.commands.doctor.sockets import socket_of
from sidecar.commands.doctor.values import Files, Setting, seconds
from sidecar.core.open_domains import lineage

_OPTION = re.compile(r"O +([A-Za-z0-9_.]+)=(.*)", re.DOTALL)
_CLASS = re.compile(r"([CF])(?:\{([A-Za-z0-9_.]+)\}|([A-Za-z]))(.*)", re.DOTALL)
_ACCESS_MAP = re.compile(r"Kaccess\s+(\S.*)", re.DOTALL)

_OCTETS, _GROUPS = 4, 8


class Filter(Struct, frozen=True, kw_only=True):
    """A milter (an `X` line): its socket in the sidecar's spelling, what its failure means, and timeouts in seconds."""

    name: str
    socket: str | None
    failure: str
    timeouts: Mapping[str, int]
    line: int


class Sendmail(Struct, frozen=True, kw_only=True):
    """What Sendmail was told.

    `words` and `files` hold the classes by name: what stands in sendmail.cf, and the files it names for the rest. The flags
    tell which features made the rules: promiscuous_relay, relay_hosts_only, and access_db's lookupdotdomain and skip.
    """

    filters: Mapping[str, Filter]
    options: Mapping[str, Setting]
    words: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[str, ...]]
    access: Setting | None
    promiscuous: bool
    hosts_only: bool
    dots: bool
    skips: bool

    @property
    def input_filters(self) -> list[Filter]:
        """The milters that are asked, in order."""
        option = self.options.get("InputMailFilters")
        names = re.split(r"[,;\s]+", option.value) if option is not None else []
        return [self.filters[name] for name in names if name in self.filters]

    def members(self, name: str, files: Files) -> frozenset[str]:
        """Give the words of a class; of a file, the first word of each line."""
        found = list(self.words.get(name, ()))
        for path in self.files.get(name, ()):
            found += [line.split()[0] for line in (files.get(path) or "").splitlines() if line.split() and line[0] != "#"]
        return frozenset(word.lower() for word in found)


def read_sendmail(text: str) -> Sendmail:
    """Read a sendmail.cf."""
    filters: dict[str, Filter] = {}
    options: dict[str, Setting] = {}
    words: dict[str, tuple[str, ...]] = {}
    files: dict[str, tuple[str, ...]] = {}
    access = None
    for number, line in _logical_lines(text):
        if line.startswith("X"):
            found = _filter(line, number)
            filters[found.name] = found
        elif (match := _OPTION.fullmatch(line)) is not None:
            options[match[1]] = Setting(value=match[2].strip(), line=number)
        elif (match := _ACCESS_MAP.fullmatch(line)) is not None:
            access = Setting(value=match[1].split()[-1], line=number)
        elif (match := _CLASS.fullmatch(line)) is not None:
            name, kept = match[2] or match[3], words if match[1] == "C" else files
            kept[name] = (*kept.get(name, ()), *_class_words(match[1], match[4]))
    return Sendmail(
        filters=filters,
        options=options,
        words=words,
        files=files,
        access=access,
        promiscuous=re.search(r"(?m)^SRcpt_ok\b", text) is not None and re.search(r"(?m)^SRelay_ok\b", text) is None,
        hosts_only=re.search(r"(?m)^R\$\+ < @ \$=R >", text) is not None,
        dots=re.search(r"(?m)^R.*\$\(access \$5:\.\$2 ", text) is not None,
        skips=re.search(r"(?m)^R<SKIP> <\$\+>", text) is not None,
    )


class Access:
    """The access map as its source has it (cf/README, "ANTI-SPAM CONFIGURATION CONTROL")."""

    def __init__(self, source: str) -> None:
        lines = (line.split(None, 1) for line in source.splitlines() if line.strip() and not line.startswith("#"))
        self._values = {line[0].lower(): line[1].strip() if len(line) > 1 else "" for line in lines}

    @property
    def recipient_domains(self) -> Iterator[str]:
        """Every domain that may be meant for recipients."""
        keys = (key.removeprefix("to:").removeprefix(".") for key in self._values)
        return (key for key in keys if "." in key and ":" not in key and "@" not in key)

    def relays_to(self, domain: str, told: Sendmail) -> bool:
        """Walk upwards as ruleset D does: the name, what is below its parent, the parent; SKIP ends it."""
        for name in lineage(domain):
            below = f".{name.partition('.')[2]}"
            keys = [name, below] if told.dots and below != "." else [name]
            value = next((value for key in keys if (value := self._value(key)) is not None), None)
            if value is not None:
                return value == "RELAY"
            if told.hosts_only:
                return False
        return False

    @property
    def relaying(self) -> netaddr.IPSet:
        """The addresses whose peers may relay."""
        keys = (key.removeprefix("connect:") for key, value in self._values.items() if value == "RELAY")
        return address_set(keys)

    def _value(self, key: str) -> str | None:
        return self._values.get(f"to:{key}", self._values.get(key))


def address_set(words: Iterator[str]) -> netaddr.IPSet:
    """Read the addresses and the beginnings of addresses among `words` (`10.1`, `IPv6:2001:db8`)."""
    return netaddr.IPSet([found for found in map(_network, words) if found is not None])


def _network(word: str) -> netaddr.IPNetwork | None:
    """Read the beginning of an address as the network it stands for, None where it is a name."""
    kind, colon, rest = word.lower().partition(":")
    try:
        if colon:
            groups = rest.split(":")
            whole = "::" in rest or len(groups) == _GROUPS
            return block(rest if whole else f"{rest}::/{16 * len(groups)}") if kind == "ipv6" and rest else None
        octets = kind.removesuffix(".").split(".")
        if not all(octet.isdecimal() for octet in octets) or len(octets) > _OCTETS:
            return None
        return block(f"{'.'.join([*octets, *['0'] * (_OCTETS - len(octets))])}/{8 * len(octets)}")
    except (netaddr.AddrFormatError, ValueError):
        return None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join lines that begin with white space to the one before them; comments are left out."""
    start, parts = 0, [""]
    for number, line in enumerate(text.splitlines(), start=1):
        if line[:1].isspace():
            parts.append(line.strip())
            continue
        yield start, " ".join(parts)
        start, parts = number, [line if not line.startswith("#") else ""]
    yield start, " ".join(parts)


def _filter(line: str, number: int) -> Filter:
    """Read `Xname, S=socket, F=failure, T=C:time;S:time;R:time;E:time`."""
    name, *equates = (part.strip() for part in line[1:].split(","))
    values = {key.strip(): value.strip() for key, _, value in (equate.partition("=") for equate in equates)}
    times = (each.strip().partition(":") for each in values.get("T", "").split(";"))
    return Filter(
        name=name,
        socket=socket_of(values.get("S", ""), Path("/")),
        failure=values.get("F", ""),
        timeouts={key: time for key, _, value in times if (time := seconds(value)) is not None},
        line=number,
    )


def _class_words(kind: str, value: str) -> list[str]:
    """Give the words of a `C` line, or the path of an `F` line without its flag and its format."""
    words = value.split()
    return words if kind == "C" else words[1:2] if words[:1] == ["-o"] else words[:1]
