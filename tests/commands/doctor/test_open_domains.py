"""The domains to which external hosts can send, and both exports: the same names as in the policy."""

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands.doctor.postfix.tables import DomainList
from sidecar.commands.doctor.relaying import compare
from sidecar.commands.doctor.sendmail import read_sendmail
from sidecar.commands.export import open_literals, postfix_relay_domains, sendmail_access
from sidecar.core.names import lineage
from sidecar.core.open_domains import OpenDomains, boundary
from sidecar.core.settings.values import DomainEntry
from tests.building import entry, settings
from tests.commands.doctor.examples import CLOSED, ENTRIES, OPEN

FEATURES = "R$* $: < $(access $5:.$2 $: ? $) >\nR<SKIP> <$+> <$*>\t$@ <$2>\n"
"""What access_db's features `lookupdotdomain' and `skip' put into sendmail.cf."""

Holds = Callable[[str], bool]


def opened(*entries: DomainEntry) -> OpenDomains:
    return OpenDomains(settings(entries))


def in_postfix(domains: OpenDomains) -> Holds:
    """Return membership as Postfix reads the export."""
    text = postfix_relay_domains(domains, "")
    return DomainList("/map", lambda _path: text, parents=False).__contains__


def in_sendmail(domains: OpenDomains) -> Holds:
    """Return membership as Sendmail reads the export."""
    return read_sendmail(f"Kaccess hash /map\n{FEATURES}", lambda _path: sendmail_access(domains, "")).relays_to


@pytest.mark.parametrize("name", OPEN)
def test_open(name: str) -> None:
    """A domain is open if external hosts can send to it on some listener. Both exports have it."""
    domains = opened(*ENTRIES)
    assert (name.lower() in domains, in_postfix(domains)(name.lower()), in_sendmail(domains)(name.lower())) == (True,) * 3


@pytest.mark.parametrize("name", CLOSED)
def test_closed(name: str) -> None:
    """No other domain is open: not by the rights of its senders, not below a plain entry, not excluded from a wildcard."""
    domains = opened(*ENTRIES)
    assert (name in domains, in_postfix(domains)(name), in_sendmail(domains)(name)) == (False,) * 3


LABELS = st.sampled_from(["a", "b", "c"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
LISTED = st.one_of(NAMES, NAMES.map("*.{}".format))
RULES = st.lists(
    st.tuples(LISTED, st.sampled_from(["*", "10.1.1.1:25"]), st.booleans()),
    unique_by=lambda rule: (rule[0], rule[1]),
    max_size=8,
)


@given(rules=RULES, name=NAMES)
def test_exports_are_exact(rules: list[tuple[str, str, bool]], name: str) -> None:
    """For any listener domains, each MTA relays to a domain exactly if the policy opens it."""
    domains = opened(*(entry(domain, listener=listener, relay_to=relay) for domain, listener, relay in rules))
    assert in_postfix(domains)(name) == in_sendmail(domains)(name) == (name in domains)


UNIVERSE = [".".join(labels) for size in (1, 2, 3, 4, 5) for labels in product("abd", repeat=size)]
"""Enough names to distinguish any two of these sets: "d" is listed nowhere, "c" is equivalent to "a"."""

SHORT = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3).map(".".join)
FEW = st.dictionaries(st.one_of(SHORT, SHORT.map("*.{}".format)), st.booleans(), max_size=4)


@given(here=FEW, there=FEW)
def test_comparison(here: dict[str, bool], there: dict[str, bool]) -> None:
    """An MTA with the export of other domains has findings exactly if it decides differently for some name."""
    domains, others = (opened(*(entry(name, relay_to=relay) for name, relay in rules.items())) for rules in (here, there))
    holds = DomainList("/map", lambda _path: postfix_relay_domains(others, ""), parents=False)
    rejected = any(name in domains and name not in holds for name in UNIVERSE)
    beyond = any(name not in domains and name in holds for name in UNIVERSE)
    is_held, names = holds.__contains__, holds.names
    found = compare(domains, mta="MTA", key="", relays=is_held, accepts=is_held, names=names, fix="", remove="")
    levels = [level for level, *_ in found]
    assert levels == ["error"] * rejected + ["warning"] * beyond


@given(rules=RULES)
def test_boundary_is_short(rules: list[tuple[str, str, bool]]) -> None:
    """No pattern of the boundary repeats the one above it."""
    domains = opened(*(entry(domain, listener=listener, relay_to=relay) for domain, listener, relay in rules))
    changes = boundary(domains.__contains__, domains.names)
    assert all((pattern.probe in domains) is opens for pattern, opens in changes.items())
    assert not changes or any(changes.values())


def test_rest() -> None:
    """`rest` is an entry that opens every domain, on any listener. A "*" that accepts nothing is not one."""
    assert opened(entry("*", relay_to=False), *ENTRIES).rest is None
    assert (found := opened(entry("*", log_oob="LogThenRelay")).rest) is not None
    assert found.path == '"*"'
    assert (found := opened(entry("*", listener="10.1.1.1:25", relay_to=True), *ENTRIES).rest) is not None
    assert found.listener == "10.1.1.1:25"


def test_order_does_not_matter() -> None:
    """The same listener domains give the same file, in any order."""
    assert postfix_relay_domains(opened(*ENTRIES), "") == postfix_relay_domains(opened(*ENTRIES[::-1]), "")
    assert sendmail_access(opened(*ENTRIES), "") == sendmail_access(opened(*ENTRIES[::-1]), "")


def test_postfix_lines() -> None:
    """Exceptions are before their wildcard, and an IDN has both spellings."""
    lines = [line for line in postfix_relay_domains(opened(*ENTRIES), "").splitlines() if not line.startswith("#")]
    assert lines == [
        "deep.below.the.wild.example",
        "open.closed.wild.example",
        "!closed.wild.example",
        "!.closed.wild.example",
        "!the.wild.example",
        "!.the.wild.example",
        "!www.wild.example",
        "!.www.wild.example",
        "bounce.example",
        "exact.example",
        "own.example",
        ".wild.example",
        "xn--bcher-kva.example",
        "bücher.example",
    ]


def test_literals_are_left_out() -> None:
    """An address literal is in no export. A colon would make it the name of a table."""
    domains = opened(entry("[ipv6:2001:db8::1]", relay_to=True), entry("[a,static:all]", relay_to=True))
    assert open_literals(domains) == ["[a,static:all]", "[ipv6:2001:db8::1]"]
    for text in (postfix_relay_domains(domains, ""), sendmail_access(domains, "")):
        assert [line for line in text.splitlines() if not line.startswith("#")] == []


def test_lineage() -> None:
    """A domain and its parents. Above a top-level domain is nothing."""
    assert list(lineage("a.b.c")) == ["a.b.c", "b.c", "c"]
    assert list(lineage("")) == []
