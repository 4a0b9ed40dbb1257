"""The domain table: whatever entries go in come out, are found by their names, and by no other."""

import mmap
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.settings.domain_table import DomainTable
from sidecar.core.settings.draft import Draft, table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from tests.building import entry

LABELS = st.sampled_from(["a", "b", "com", "*", "xn--bcher-kva", "_d"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join) | st.sampled_from(["[192.0.2.1]", "[ipv6:2001:db8::1]"])
KEYS = st.fixed_dictionaries(
    {},
    optional={
        "relay_to": st.booleans(),
        "relay_from": st.lists(st.sampled_from(["10.0.0.0/24", "2001:db8::/32"]), max_size=2),
        "relay_from_authz": st.lists(st.sampled_from(["daniel", "w\u00e9z"]), max_size=2),
        "log_oob": st.sampled_from(["Ignore", "LogThenRelay", "LogThenDrop"]),
        "log_arf": st.sampled_from(["Ignore", "LogThenDrop"]),
    },
)
LISTENERS = st.sampled_from([ANY_LISTENER, "10.0.0.1:25", "[::1]:25"])
FILES = st.sampled_from(["a.toml", "b.json"])


@st.composite
def entries(draw: st.DrawFn) -> list[DomainEntry]:
    """Make entries with keys on any lines of several files, some of them with another spelling of their names."""
    made = []
    for listener, name in draw(st.lists(st.tuples(LISTENERS, NAMES), unique=True, max_size=12)):
        one = entry(name, listener, **draw(KEYS))
        if draw(st.booleans()):
            one = replace(one, path=one.path.upper(), trues=("log_oob",))
        if draw(st.booleans()):
            one = replace(one, lines={key: (draw(FILES), draw(st.integers(1, 99))) for key in one.lines})
        made.append(one)
    return made


def by_listener(listed: Sequence[DomainEntry]) -> list[DomainEntry]:
    """Give the entries as a table has them: a listener's together, the first one's first."""
    listeners = dict.fromkeys(one.listener for one in listed)
    return [one for listener in listeners for one in listed if one.listener == listener]


@settings(deadline=None)  # a table is memory that the system gives
@given(entries())
def test_what_goes_in_comes_out(listed: list[DomainEntry]) -> None:
    """A table is a sequence of the very entries that it was made of, however often they are asked for."""
    table = table_of(listed)
    assert list(table) == by_listener(listed) == list(table)
    assert table == by_listener(listed)
    assert [table[index] for index in range(-len(table), len(table))] == 2 * by_listener(listed)
    assert table[1:3] == by_listener(listed)[1:3]
    assert table_of(table) is table


@settings(deadline=None)  # a table is memory that the system gives
@given(entries(), NAMES | st.text(max_size=9) | st.sampled_from(["", "\ud800", "a\0", "\u00e9.com"]))
def test_an_entry_is_found_by_its_name_on_its_listener(listed: list[DomainEntry], other: str) -> None:
    """And by no other name, whatever characters that has."""
    table = table_of(listed)
    for listener, domains in table.listeners.items():
        own = {one.domain: one for one in listed if one.listener == listener}
        assert dict(domains.items()) == own
        assert list(domains) == list(own)
        assert len(domains) == len(own)
        assert domains.get(other) == own.get(other)
        assert (other in domains) == (other in own)


@settings(deadline=None)  # a table is memory that the system gives
@given(entries())
def test_nodes(listed: list[DomainEntry]) -> None:
    """The nodes are the names and all their parents, and each knows the entry `*` below it."""
    for listener, domains in table_of(listed).listeners.items():
        own = {one.domain for one in listed if one.listener == listener}
        parents = {name.split(".", cut)[-1] for name in own if name[0] != "[" for cut in range(1, name.count(".") + 1)}
        assert all(domains.node(name) for name in own | parents)
        assert not any(domains.node(name) for name in {"x", "x.com", "om", ".com", "com."} - own - parents)
        for name in own | parents:
            below = f"*.{name}"
            assert domains.star_below(domains.node(name), name) == domains.get(below)
        assert domains.star == domains.node("*")


@settings(deadline=None)  # a table is memory that the system gives
@given(entries())
def test_examples(listed: list[DomainEntry]) -> None:
    """There is an example of all that entries say on a listener, the first one; and those that say the same are like it."""

    def said(one: DomainEntry) -> DomainEntry:
        return replace(one, domain="", path="", lines={})

    for listener, domains in table_of(listed).listeners.items():
        own = [one for one in listed if one.listener == listener]
        examples = list(domains.examples())
        assert all(said(one) in map(said, examples) for one in own)
        assert [one for one in own if one in examples] == examples
        assert sorted(domains.alike(examples)) == sorted(one.domain for one in own)


def test_many_shapes() -> None:
    """Entries that have nothing in common are kept and found as those are that have everything."""
    listed = [entry(f"d{number}.example", relay_from_authz=[f"user{number}"]) for number in range(3000)]
    table = table_of(listed)
    assert list(table) == listed
    domains = table.listeners[ANY_LISTENER]
    assert all(domains[one.domain] == one for one in (*listed, *listed))


def test_an_entry_that_is_replaced_keeps_its_place() -> None:
    draft = Draft([entry("a.com", relay_to=True), entry("b.com")])
    draft.put(entry("a.com", log_oob="LogThenDrop"))
    assert list(draft.table()) == [entry("a.com", log_oob="LogThenDrop"), entry("b.com")]


def test_few_entries_are_made_once() -> None:
    """Where domains are few, their entries are not made anew for each recipient."""
    domains = table_of([entry("a.com")]).listeners[ANY_LISTENER]
    assert domains["a.com"] is domains["a.com"]


def _copy(table: DomainTable) -> mmap.mmap:
    buffer = mmap.mmap(-1, len(table.buffer))
    buffer[:] = table.buffer[:]
    return buffer


def test_a_copy_of_the_buffer_is_the_table() -> None:
    listed = [entry("a.com", relay_to=True), entry("*.b.com", "10.0.0.1:25", log_oob="LogThenDrop")]
    assert list(DomainTable(_copy(table_of(listed)))) == by_listener(listed)


FOREIGN = """\
import mmap, sys
from sidecar.core.settings.domain_table import DomainTable
content = sys.stdin.buffer.read()
buffer = mmap.mmap(-1, len(content))
buffer[:] = content
DomainTable(buffer)
"""


@pytest.mark.parametrize(("seed", "status"), [("1", 0), ("2", 1)])
def test_a_process_that_hashes_otherwise_is_refused(seed: str, status: int) -> None:
    """It would find nothing, and say so of every domain."""
    write = "import sys\nfrom sidecar.core.settings.draft import table_of\nsys.stdout.buffer.write(table_of(()).buffer[:])"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    content = subprocess.run(
        [sys.executable, "-c", write], env={**environ, "PYTHONHASHSEED": "1"}, capture_output=True, check=True
    ).stdout
    read = subprocess.run(
        [sys.executable, "-c", FOREIGN],
        env={**environ, "PYTHONHASHSEED": seed},
        input=content,
        capture_output=True,
        check=False,
    )
    assert read.returncode == status
    assert (b"hashes names otherwise" in read.stderr) == bool(status)
