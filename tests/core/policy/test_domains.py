"""The walk through a listener's domains, as KumoMTA's own tests define it."""

import json
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.domains import Nodes, read_domains
from sidecar.config.files import parsed
from sidecar.config.findings import Findings
from sidecar.core.policy.policy import Coverage
from sidecar.core.settings.domain_table import ListenerDomains, table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from tests.building import entry


def mapped(entries: Iterable[DomainEntry]) -> ListenerDomains:
    """Return the map of all listeners."""
    return table_of([*entries]).listeners[ANY_LISTENER]


WALKS = [
    (["example.com"], "example.com", "example.com"),
    (["example.com"], "www.example.com", None),
    (["*.example.com"], "a.example.com", "*.example.com"),
    (["*.example.com"], "a.b.example.com", "*.example.com"),
    (["*.example.com"], "example.com", None),
    (["*"], "anything.example", "*"),
    (["*"], "", "*"),
    ([""], "", ""),
    (["", "*"], "", ""),
    (["", "*"], "com", "*"),
    ([""], "com", None),
    (["*", "example.com"], "", "*"),
    (["example.com"], "", None),
    # a listed domain below leaves its parents without an entry, and the walk ends on them
    (["*.example.com", "omg.wtf.woot.example.com"], "woot.example.com", None),
    (["*.example.com", "omg.wtf.woot.example.com"], "wtf.woot.example.com", None),
    (["*.example.com", "omg.wtf.woot.example.com"], "omg.wtf.woot.example.com", "omg.wtf.woot.example.com"),
    (["*.example.com", "omg.wtf.woot.example.com"], "x.woot.example.com", None),
    (["*.example.com", "omg.wtf.woot.example.com"], "other.example.com", "*.example.com"),
    # "*" serves only names whose top label has no other entry
    (["*", "example.com"], "other.com", None),
    (["*", "example.com"], "other.net", "*"),
    (["*", "*.com"], "other.com", "*.com"),
    # an address literal is a domain of its own
    (["[192.0.2.1]"], "[192.0.2.1]", "[192.0.2.1]"),
    (["*.1", "*"], "[192.0.2.1]", "*"),
    (["*.2.1"], "[192.0.2.1]", None),
]


@pytest.mark.parametrize(("listed", "domain", "found"), WALKS)
def test_walk(listed: list[str], domain: str, found: str | None) -> None:
    """The longest listed parent is where the walk stops, and only the `*` beside that point can answer."""
    answer = mapped(map(entry, listed)).find(domain)
    assert (answer and answer.domain) == found


def _tree_walk(listed: list[str], domain: str) -> str | None:
    """KumoMTA's walk as a tree of labels: the second opinion."""
    nodes: dict[tuple[str, ...], str | None] = {(): None}
    for name in listed:
        labels = tuple(reversed(name.split(".")))
        for length in range(len(labels)):
            nodes.setdefault(labels[:length], None)
        nodes[labels] = name
    path: tuple[str, ...] = ()
    for label in reversed(domain.split(".")):
        if (*path, label) not in nodes:
            return nodes.get((*path, "*"))
        path = (*path, label)
    return nodes[path]


LABELS = st.sampled_from(["a", "b", "c"])
DOMAINS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
LISTED = st.lists(DOMAINS | DOMAINS.map(lambda domain: f"*.{domain}") | st.sampled_from(["*", ""]), max_size=8)
# Names that no address has: KumoMTA loads them, and their parents can end a walk.
DEAD = st.lists(st.tuples(st.sampled_from(["u@a", "", "b ", "c" * 64, "u@a.b", ".a"]), DOMAINS).map(".".join), max_size=3)


@given(LISTED, DOMAINS | st.just(""))
def test_the_dict_is_the_tree(listed: list[str], domain: str) -> None:
    """The dict of nodes finds for any domain what a walk through a tree of labels finds."""
    answer = mapped(map(entry, listed)).find(domain)
    assert (answer and answer.domain) == _tree_walk(listed, domain)


def read(listed: list[str], dead: list[str], listener: str | None = None) -> ListenerDomains:
    """Return the map that a file with these names makes."""
    names = {name: {"relay_to": True} for name in [*listed, *dead]}
    nodes: Nodes = {}
    text = json.dumps(names if listener is None else {"listener": {listener: names}})
    entries = read_domains(parsed(text, "d.json", is_json=True), Findings(), nodes)
    key = listener or ANY_LISTENER
    return table_of([*entries.get(key, {}).values()], nodes).listeners[key]


@settings(deadline=None)  # a table is memory that the system gives
@given(LISTED.filter(bool), DEAD, DOMAINS | st.just(""))
def test_names_of_no_address_end_a_walk(listed: list[str], dead: list[str], domain: str) -> None:
    """With names that no address has, a file gives any domain the entry that KumoMTA's tree of labels gives it."""
    answer = read(listed, dead).find(domain)
    assert (answer and answer.domain) == _tree_walk([*listed, *dead], domain)


@settings(deadline=None)  # a table is memory that the system gives
@given(LISTED.filter(bool), DEAD, DOMAINS | st.just("*"), st.lists(LABELS, min_size=1, max_size=3))
def test_covers_with_names_of_no_address(listed: list[str], dead: list[str], pattern: str, labels: list[str]) -> None:
    """Where a map covers a pattern, no domain that the pattern stands for slips through at such a node."""
    domains = read(listed, dead, "10.1.1.1:25")
    if Coverage(domains).covers(pattern):
        assert domains.find(pattern.replace("*", ".".join(labels))) is not None


@given(LISTED, DOMAINS | DOMAINS.map(lambda domain: f"*.{domain}") | st.just("*"), st.lists(LABELS, min_size=1, max_size=3))
def test_covers(listed: list[str], pattern: str, labels: list[str]) -> None:
    """Where a map covers a pattern, no domain that the pattern stands for slips through."""
    domains = mapped(map(entry, listed))
    if Coverage(domains).covers(pattern):
        assert domains.find(pattern.replace("*", ".".join(labels))) is not None


def test_covers_is_quick() -> None:
    """Thousands of shared wildcards, each answered by a listener's own map, are looked through in no time."""
    listed = (entry(name) for number in range(5000) for name in (f"*.d{number}.example", f"d{number}.example"))
    coverage = Coverage(mapped(listed))
    began = time.process_time()
    assert all(coverage.covers(f"*.d{number}.example") for number in range(5000))
    assert time.process_time() - began < 1.0
