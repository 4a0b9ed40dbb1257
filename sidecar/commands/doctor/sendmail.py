"""Sendmail's settings, read from its sendmail.cf and the source of its access map.

Owns the syntax (Sendmail Installation and Operation Guide, section 5) and the look-ups of cf/README. Never checks a setting.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations
from msgspec import Struct

from sidecar.commands.doctor.findings import ReadFile, Service, logical_lines, seconds
from sidecar.commands.doctor.relaying import block
from sidecar.commands.doctor.sockets import socket_of
from sidecar.core.names import lineage

_OPTION = re.compile(r"O +([A-Za-z0-9_.]+)=(.*)", re.DOTALL)
_CLASS = re.compile(r"([CF])(?:\{([A-Za-z0-9_.]+)\}|([A-Za-z]))(.*)", re.DOTALL)
_ACCESS_MAP = re.compile(r"Kaccess\s+(\S.*)", re.DOTALL)

# The features that relay for hosts which no list names, and a rule that each makes (proto.m4).
_RELAYING_FEATURES = {
    "relay_local_from": r"(?m)^R<\?> \$\+ < @ \$=w >\s+\$@ RELAY",
    "relay_mail_from": r"(?m)^R<@> <RELAY>\s+\$@ RELAY",
    "relay_based_on_MX": r"(?m)^R<\$\* : \$=w \. : \$\*> \$\*\s+\$@ RELAY",
}
_DB_MAPS = ("hash", "btree")
_OCTETS, _GROUPS = 4, 8


class Filter(Struct, frozen=True, kw_only=True):
    """A milter (an `X` line): its socket in the sidecar's spelling, the flag for failures, and timeouts in seconds."""

    key: str
    socket: str | None
    failure: str
    timeouts: Mapping[str, int]


class Daemon(Struct, frozen=True, kw_only=True):
    """A listener (DaemonPortOptions), and its milters. `own` is True if it names them itself, instead of InputMailFilters."""

    name: str
    loopback: bool = False
    own: bool = False
    filters: list[Filter]


class Sendmail(Service, frozen=True, kw_only=True):
    """The settings of Sendmail. `daemons` are those that other machines can reach, `classes` have their members in lower case.

    `named` are the domains in class R, whose addresses are peers. `access` is the source of the access map (cf/README,
    "ANTI-SPAM CONFIGURATION CONTROL"), None if `access_path` cannot be read. `is_map_missing` is True if the source can be
    read, and the map made from it cannot. `relaying_features` are in use, and relay for hosts that no list names. The flags
    show which features made the rules: promiscuous_relay, relay_hosts_only, and access_db's lookupdotdomain and skip.
    """

    daemons: list[Daemon]
    options: Mapping[str, str]
    classes: Mapping[str, frozenset[str]]
    named: frozenset[str]
    access_path: str | None
    access: Mapping[str, str] | None
    is_map_missing: bool
    relaying_features: list[str]
    promiscuous: bool
    hosts_only: bool
    dots: bool
    skips: bool

    def members(self, name: str) -> frozenset[str]:
        """Return the words of a class."""
        return self.classes.get(name, frozenset())

    @property
    def recipient_domains(self) -> Iterator[str]:
        """All names that can be domains of recipients."""
        keys = (key.removeprefix("to:").removeprefix(".") for key in self.access or ())
        yield from (key for key in keys if "." in key and ":" not in key and "@" not in key)
        yield from self.named

    def relays_to(self, domain: str) -> bool:
        """Look up in class R, then as ruleset D: the name, all names below its parent, the parent, ... SKIP ends the search."""
        values = self.access or {}
        if domain in self.named if self.hosts_only else any(name in self.named for name in lineage(domain)):
            return True
        for name in lineage(domain):
            below = f".{name.partition('.')[2]}"
            keys = [name, below] if self.dots and below != "." else [name]
            value = next((values[form] for key in keys for form in (f"to:{key}", key) if form in values), None)
            if value is not None or self.hosts_only:
                return value == "RELAY"
        return False

    @property
    def relaying(self) -> netaddr.IPSet:
        """The addresses of peers that can relay."""
        keys = (key.removeprefix("connect:") for key, value in (self.access or {}).items() if value == "RELAY")
        return address_set([*self.members("R"), *keys])


def read_sendmail(text: str, read: ReadFile) -> Sendmail:
    """Return the settings in a sendmail.cf, with the classes in the files that it names."""
    filters: dict[str, Filter] = {}
    options: dict[str, str] = {}
    classes: dict[str, frozenset[str]] = {}
    lines: dict[str, int] = {}
    access_map: list[str] = []
    ports: list[str] = []
    # A continuation line of a comment is a comment.
    uncommented = ("" if line.startswith("#") else line for line in text.splitlines())
    for number, line in logical_lines(enumerate(uncommented, start=1)):
        if line.startswith("X"):
            found = _filter(line)
            filters[found.key] = found
            lines[found.key] = number
        elif (match := _OPTION.fullmatch(line)) is not None:
            options[match[1]] = match[2].strip()
            lines[match[1]] = number
            ports += [match[2]] if match[1] == "DaemonPortOptions" else []
        elif (match := _ACCESS_MAP.fullmatch(line)) is not None:
            access_map = match[1].split()
            lines["access_db"] = number
        elif (match := _CLASS.fullmatch(line)) is not None:
            words = match[4].split() if match[1] == "C" else _file_words(match[4], read)
            name = match[2] or match[3]
            classes[name] = classes.get(name, frozenset()).union(map(str.lower, words))
    access_path = access_map[-1] if access_map else None
    source = "" if access_path is None else read(access_path)
    # Without -o Sendmail needs the map.
    needs_db = access_path is not None and access_map[0] in _DB_MAPS and "-o" not in access_map
    daemons = [_daemon(port, options.get("InputMailFilters", ""), filters) for port in ports or [""]]
    return Sendmail(
        daemons=[each for each in daemons if not each.loopback] or daemons,
        options=options,
        classes=classes,
        named=frozenset(word for word in classes.get("R", ()) if ":" not in word and not word.replace(".", "").isdecimal()),
        access_path=access_path,
        access=None if source is None else _access(source),
        is_map_missing=needs_db and source is not None and read(f"{access_path}.db") is None,
        relaying_features=[name for name, rule in _RELAYING_FEATURES.items() if re.search(rule, text)],
        lines=lines,
        promiscuous=re.search(r"(?m)^SRcpt_ok\b", text) is not None and re.search(r"(?m)^SRelay_ok\b", text) is None,
        hosts_only=re.search(r"(?m)^R\$\+ < @ \$=R >", text) is not None,
        dots=re.search(r"(?m)^R.*\$\(access \$5:\.\$2 ", text) is not None,
        skips=re.search(r"(?m)^R<SKIP> <\$\+>", text) is not None,
    )


def _file_words(value: str, read: ReadFile) -> list[str]:
    """Return the first word of each line of the file that an `F` line names, without its flag and its format."""
    words = value.strip().removeprefix("-o").split()
    text = read(words[0]) if words else None
    return [line.split()[0] for line in (text or "").splitlines() if line.strip() and line[0] != "#"]


def _access(source: str) -> dict[str, str]:
    lines = (line.split(None, 1) for line in source.splitlines() if line.strip() and not line.startswith("#"))
    return {line[0].lower(): line[1].strip() if len(line) > 1 else "" for line in lines}


def address_set(words: Iterable[str]) -> netaddr.IPSet:
    """Return the networks of the addresses, and of the beginnings of addresses, in `words` (`10.1`, `IPv6:2001:db8`)."""
    return netaddr.IPSet([found for found in map(_network, words) if found is not None])


def _network(word: str) -> netaddr.IPNetwork | None:
    """Return the network of the beginning of an address, None if the word is a name."""
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


def _filter(line: str) -> Filter:
    """Return the milter in `Xname, S=socket, F=failure, T=C:time;S:time;R:time;E:time`."""
    name, *equates = (part.strip() for part in line[1:].split(","))
    values = {key.strip(): value.strip() for key, _, value in (equate.partition("=") for equate in equates)}
    times = (each.strip().partition(":") for each in values.get("T", "").split(";"))
    return Filter(
        key=f"X{name}",
        socket=socket_of(values.get("S", ""), Path("/")),
        failure=values.get("F", ""),
        timeouts={key: time for key, _, value in times if (time := seconds(value)) is not None},
    )


def _daemon(port: str, default: str, filters: Mapping[str, Filter]) -> Daemon:
    """Return the listener of `Name=MTA, Addr=address, I=filter;filter`: of each key only the first letter counts."""
    equates = (equate.strip().partition("=") for equate in port.split(","))
    values = {key[:1].upper(): value.strip() for key, _, value in equates}
    used = re.split(r"[,;\s]+", values.get("I", default))
    return Daemon(
        name=values.get("N", ""),
        loopback=values.get("A", "").lower().startswith(("127.", "::1", "ipv6:::1", "localhost")),
        own="I" in values,
        filters=[filters[f"X{name}"] for name in used if f"X{name}" in filters],
    )
