"""The domain table: whatever entries go in come out, are found by their names, and by no other."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.settings.domain_table import _KEPT, ChangedTable, DomainTable, table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from tests.building import entry

LABELS = st.sampled_from(["a", "b", "com", "*", "xn--bcher-kva", "_d"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join) | st.sampled_from(["[192.0.2.1]", "[ipv6:2001:db8::1]", ""])
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
            steps = {key: (draw(FILES), draw(st.integers(-9, 99)) if key else 0) for key in one.steps}
            one = replace(one, line=draw(st.integers(10, 99)), steps=steps)
        made.append(one)
    return made


def by_listener(listed: Sequence[DomainEntry]) -> list[DomainEntry]:
    """Return the entries as a table has them: a listener's together, the first one's first."""
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
def test_walks(listed: list[DomainEntry]) -> None:
    """The nodes are the names and all their parents. A name that is no node finds the entry `*` below its longest parent."""
    for listener, domains in table_of(listed).listeners.items():
        own = {one.domain for one in listed if one.listener == listener}
        parents = {name.split(".", cut)[-1] for name in own if name[:1] != "[" for cut in range(1, name.count(".") + 1)}
        for name in (own | parents) - {""}:
            assert domains.find(name) == domains.get(name)
            assert domains.find(f"x.{name}") == domains.find(f"x.y.z.{name}") == domains.get(f"*.{name}")
        assert domains.find("") == (domains.get("") or domains.get("*"))
        for name in (
            "x",
            "om",
            "x.om",
            "[192.0.2.9]",
            "x" * 300,
            "x" * 5000 + ".net",
            "x." * 5000 + "net",
            "\ud800",
            "a\0",
        ):
            assert domains.find(name) == domains.get("*")


@settings(deadline=None)  # a table is memory that the system gives
@given(entries())
def test_examples(listed: list[DomainEntry]) -> None:
    """There is an example of each combination of permissions on a listener, the first one."""
    for listener, domains in table_of(listed).listeners.items():
        own = [one for one in listed if one.listener == listener]
        examples = list(domains.examples())
        assert all(_said(one) in map(_said, examples) for one in own)
        assert [one for one in own if one in examples] == examples
        assert len(set(map(_said, examples))) == len(examples)


@settings(deadline=None)  # a table is memory that the system gives
@given(entries(), entries(), st.data())
def test_a_changed_table_is_the_table_of_the_changed_entries(
    listed: list[DomainEntry], more: list[DomainEntry], data: st.DataObject
) -> None:
    """Every name finds the same entry as in a table that is made of all entries, and the examples have all combinations."""
    before = table_of(listed)
    changed = [one for one in more if one.listener in before.listeners]
    by_key = {(one.listener, one.domain): one for one in listed} | {(one.listener, one.domain): one for one in changed}
    after, whole = ChangedTable(before, changed), table_of([*by_key.values()])
    assert len(after) == len(whole)
    for listener, domains in whole.listeners.items():
        own = after.listeners[listener]
        assert dict(own) == dict(domains)
        names = [one.domain for one in by_key.values()]
        for name in (*names, *(name.split(".", 1)[-1] for name in names), data.draw(NAMES), "", "x", "x" * 5000 + ".com"):
            has_below = name and not name.startswith("[")
            for below in (name, f"x.{name}", f"x.y.{name}") if has_below else (name,):
                assert own.find(below) == domains.find(below)
                assert own.is_node(below) == domains.is_node(below)
        assert {_said(one) for one in own.examples()} == {_said(one) for one in domains.examples()}


def _said(one: DomainEntry) -> tuple[object, ...]:
    return one.relay_to, bool(one.relay_from), bool(one.relay_from_authz), one.log_oob, one.log_arf


@settings(deadline=None)  # a table is memory that the system gives
@given(entries(), st.lists(st.lists(LABELS, min_size=1, max_size=4).map(".".join), max_size=4))
def test_bare_nodes(listed: list[DomainEntry], bare: list[str]) -> None:
    """Names without an entry are nodes as the listed ones are, and are no entries; other processes have them, too."""
    made = table_of(listed, {ANY_LISTENER: bare, "10.0.0.1:25": bare})
    table = DomainTable(made.descriptor)
    assert [*table] == by_listener(listed)
    for listener in (ANY_LISTENER, "10.0.0.1:25"):
        domains, own = table.listeners[listener], {one.domain for one in listed if one.listener == listener}
        assert {*domains.names()} == own | {*bare}
        for name in bare:
            assert domains.is_node(name)
            assert domains.find(name) == domains.get(name)
            assert domains.find(f"x.{name}") == domains.get(f"*.{name}")


def test_many_shapes() -> None:
    """Entries that have nothing in common are kept and found as those are that have everything."""
    listed = [entry(f"d{number}.example", relay_from_authz=[f"user{number}"]) for number in range(3000)]
    table = table_of(listed)
    assert list(table) == listed
    domains = table.listeners[ANY_LISTENER]
    assert all(domains[one.domain] == one for one in (*listed, *listed))


def test_entries_are_made_once() -> None:
    """Entries that are found again are not made again."""
    domains = table_of([entry("a.com")]).listeners[ANY_LISTENER]
    assert domains.find("a.com") is domains.find("a.com")


def test_names_of_any_length_are_looked_up() -> None:
    """LMDB has a limit for keys; a name beyond it is not listed, but a parent can be."""
    domains = table_of([entry("a.com"), entry("*.a.com")]).listeners[ANY_LISTENER]
    for name in ("x" * 300, "x" * 5000 + ".net", "x." * 5000 + "net"):
        assert name not in domains
        assert domains.find(name) is None
    for name in ("x" * 5000 + ".a.com", "x." * 5000 + "a.com"):
        assert domains.find(name) == domains["*.a.com"]


def test_found_entries_are_forgotten_in_time() -> None:
    """A process keeps a bounded number of them, and finds all others again."""
    domains = table_of([entry(f"d{number}.example") for number in range(3000)]).listeners[ANY_LISTENER]
    for _ in range(2):
        assert all((found := domains.find(name)) and found.domain == name for name in domains)
        assert len(domains._found) <= _KEPT


def test_a_process_opens_the_same_memory_once() -> None:
    """LMDB does not open a database twice; a worker has inherited what it then receives."""
    listed = [entry("a.com", relay_to=True), entry("*.b.com", "10.0.0.1:25", log_oob="LogThenDrop")]
    table = table_of(listed)
    again = DomainTable(table.descriptor)
    assert list(again) == list(table) == by_listener(listed)
    del table
    assert list(again) == by_listener(listed)


def test_a_table_closes_its_descriptors() -> None:
    def held() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    before = held()
    table = table_of([entry("a.com")])
    assert held() > before
    del table
    assert held() == before


READ = """\
import sys
from sidecar.core.settings.domain_table import DomainTable
print([one.domain for one in DomainTable(int(sys.argv[1]))])
"""


def test_another_process_reads_the_memory() -> None:
    """Nothing depends on the process that wrote it, such as its salt for hashes."""
    table = table_of([entry("a.com"), entry("*.b.com")])
    read = subprocess.run(
        [sys.executable, "-c", READ, str(table.descriptor)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"},
        pass_fds=[table.descriptor],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout == "['a.com', '*.b.com']\n"


def test_threads_share_a_table() -> None:
    """Each of several threads finds every entry while the others look up."""
    listed = [entry(f"d{number}.example") for number in range(3000)]
    domains = table_of(listed).listeners[ANY_LISTENER]
    with ThreadPoolExecutor(4) as threads:
        rounds = [threads.submit(lambda: [domains[one.domain].domain for one in listed]) for _ in range(8)]
        assert all(one.result() == [each.domain for each in listed] for one in rounds)


def test_a_forked_process_uses_the_table() -> None:
    listed = [entry(f"d{number}.example") for number in range(3000)]
    table = table_of(listed)
    child = os.fork()
    if child == 0:
        is_right = list(table) == listed and table.listeners[ANY_LISTENER]["d7.example"] == listed[7]
        again = DomainTable(table.descriptor)
        del table
        os._exit(0 if is_right and again[8] == listed[8] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert list(table) == listed
