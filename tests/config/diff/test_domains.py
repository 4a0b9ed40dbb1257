"""Listener domains compared: what entries say, and which of them names find."""

from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.config.diff.domains import differences, domain_changes
from sidecar.config.diff.rules import connect_changes
from sidecar.config.diff.values import RuleChange, Side
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from tests.building import MODES, entry, settings
from tests.config.diff.sides import side, side_of

OTHER = "10.1.1.1:25"


def told(*changes: RuleChange) -> list[tuple[str, str, str, Any, Any]]:
    """Put changes into a table: action, effect, key, and both values."""
    return [
        (change.action, change.effect, change.key, change.old and change.old.value, change.new and change.new.value)
        for change in changes
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"relay_to": False}, {}, []),
        ({"relay_to": True}, {}, [("closes", "relay_to", True, False)]),
        ({}, {"relay_to": True}, [("opens", "relay_to", False, True)]),
        ({"log_oob": "Ignore"}, {"log_oob": "LogThenDrop"}, [("opens", "log_oob", "Ignore", "LogThenDrop")]),
        ({"log_oob": "LogThenDrop"}, {"log_oob": "LogThenRelay"}, [("opens", "log_oob", "LogThenDrop", "LogThenRelay")]),
        ({"log_oob": "LogThenRelay"}, {"log_oob": "LogThenDrop"}, [("closes", "log_oob", "LogThenRelay", "LogThenDrop")]),
        ({"log_arf": "LogThenRelay"}, {}, [("closes", "log_arf", "LogThenRelay", "Ignore")]),
        ({"relay_from": ["10.0.0.0/8"]}, {"relay_from": ["10.0.0.0/9", "10.128.0.0/9"]}, [
            ("neither", "relay_from", ["10.0.0.0/8"], ["10.0.0.0/9", "10.128.0.0/9"]),
        ]),
        ({"relay_from": ["10.0.0.0/9", "10.128.0.0/9"]}, {"relay_from": ["10.128.0.0/9", "10.0.0.0/9"]}, []),
        ({"relay_from": ["10.0.0.0/8"]}, {"relay_from": ["11.0.0.0/8"]}, [
            ("opens", "relay_from", ["10.0.0.0/8"], ["11.0.0.0/8"]),
        ]),
        ({"relay_from": ["10.0.0.0/8"]}, {}, [("closes", "relay_from", ["10.0.0.0/8"], [])]),
        ({}, {"relay_from_authz": ["daniel"]}, [("opens", "relay_from_authz", [], ["daniel"])]),
        ({"relay_from_authz": ["daniel"]}, {}, [("closes", "relay_from_authz", ["daniel"], [])]),
        ({"relay_from_authz": ["a", "b"]}, {"relay_from_authz": ["b", "a", "b"]}, []),
        ({"relay_to": True, "log_oob": "LogThenDrop"}, {"relay_to": True}, [("opens", "log_oob", "LogThenDrop", "Ignore")]),
        ({"relay_to": True}, {"relay_to": True, "log_oob": "LogThenDrop"}, [("closes", "log_oob", "Ignore", "LogThenDrop")]),
        ({"relay_to": True}, {"relay_to": True, "log_arf": "LogThenRelay"}, [("neither", "log_arf", "Ignore", "LogThenRelay")]),
        ({"relay_to": True, "log_oob": "Ignore"}, {"log_oob": "LogThenDrop", "log_arf": "LogThenDrop"}, [
            ("closes", "relay_to", True, False),
            ("opens", "log_oob", "Ignore", "LogThenDrop"),
            ("opens", "log_arf", "Ignore", "LogThenDrop"),
        ]),
    ],
)  # fmt: skip
def test_keys(old: dict[str, Any], new: dict[str, Any], expected: list[tuple[str, str, Any, Any]]) -> None:
    """Each key is told with its value before and after, and with what it opens or closes."""
    found = list(differences("example.com", entry("example.com", **old), entry("example.com", **new)))
    assert [(one.effect, one.key, one.old, one.new) for one in found] == expected


@pytest.mark.parametrize(
    ("key", "value", "danger"),
    [
        ("relay_to", True, True),
        ("relay_from", ["0.0.0.0/0"], True),
        ("relay_from", ["10.0.0.0/8"], False),
        ("relay_from_authz", ["daniel"], False),
        ("log_oob", "LogThenRelay", False),
    ],
)
def test_danger(key: str, value: Any, danger: bool) -> None:
    """What lets in more or less everybody is marked."""
    (there,) = differences("x", None, entry("x", **{key: value}))
    (back,) = differences("x", entry("x", **{key: value}), None)
    assert (there.danger, back.danger) == (danger, False)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Ignore", "LogThenRelay", "external hosts pass RCPT for x.com: bounce reports are logged and relayed"),
        ("Ignore", "LogThenDrop", "external hosts pass RCPT for x.com: bounce reports are logged and dropped"),
        ("LogThenDrop", "LogThenRelay", "bounce reports to x.com are logged and relayed, no longer dropped"),
        ("LogThenDrop", "Ignore", "bounce reports to x.com are no longer accepted from external hosts"),
    ],
)
def test_words(old: str, new: str, text: str) -> None:
    """The meaning of a log mode is told as what strangers may do."""
    (found,) = differences("x.com", entry("x.com", log_oob=old), entry("x.com", log_oob=new))
    assert found.text == text


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("LogThenDrop", "Ignore", "relayed as other mail, and no longer logged"),
        ("Ignore", "LogThenDrop", "logged and dropped, no longer relayed"),
        ("Ignore", "LogThenRelay", "logged, and relayed as before"),
    ],
)
def test_where_everyone_may_relay(old: str, new: str, text: str) -> None:
    """Reports that are not logged are mail there, so nobody is told that they are rejected."""
    (found,) = differences("x.com", *(entry("x.com", relay_to=True, log_oob=mode) for mode in (old, new)))
    assert found.text == f"bounce reports to x.com are {text}"


def test_lines_of_both() -> None:
    """A key is told with where it is set now and where it was; of a key that is left out, where the entry stands."""
    before, after = entry("a.com", relay_to=True, log_oob="LogThenDrop"), entry("a.com", log_oob="LogThenRelay")
    changes = list(domain_changes(side(before), side(after)))
    assert [(change.key, change.old and change.old.line, change.new and change.new.line) for change in changes] == [
        ('"a.com".relay_to', 2, 1),
        ('"a.com".log_oob', 3, 2),
    ]


WILD = entry("*.example.com", log_oob="LogThenRelay")
DEEP = entry("omg.wtf.woot.example.com", log_oob="LogThenRelay")
WWW = entry("www.example.com", log_oob="Ignore")


def test_an_entry_below_a_wildcard_takes_names_out_of_it() -> None:
    """The walk ends on names between the two and finds nothing: each is told, and the entry that did it."""
    first, *rest = domain_changes(side(WILD), side(WILD, DEEP))
    assert told(first) == [("added", "neither", DEEP.path, None, DEEP.path)]
    assert told(*rest) == [
        ("changed", "closes", "*.omg.wtf.woot.example.com", WILD.path, None),
        ("changed", "closes", "wtf.woot.example.com and *.wtf.woot.example.com", WILD.path, None),
        ("changed", "closes", "woot.example.com and *.woot.example.com", WILD.path, None),
    ]
    assert all(change.kind == "lookup" for change in rest)
    cause = ', because "omg.wtf.woot.example.com" was added (domains.toml:1)'
    assert rest[-1].text == f"bounce reports to woot.example.com are no longer accepted from external hosts{cause}"
    _, *back = domain_changes(side(WILD, DEEP), side(WILD))
    assert {change.effect for change in back} == {"opens"}


def test_an_entry_that_left_opens_what_a_wider_one_permits() -> None:
    """An entry that kept a name out of a wildcard is compared with what the name finds without it."""
    changes = list(domain_changes(side(WILD, WWW), side(WILD)))
    assert told(*changes) == [
        ("removed", "opens", '"www.example.com".log_oob', "Ignore", "LogThenRelay"),
        ("changed", "opens", "*.www.example.com", None, WILD.path),
    ]


def test_a_change_of_the_rest_is_told_once() -> None:
    """What `"*"` says holds for every name that nothing else serves; it is not told again for each of them."""
    many = [entry(f"a{number}.example.com", log_oob="Ignore", relay_to=True) for number in range(50)]
    changes = list(domain_changes(side(*many), side(*many, entry("*", log_oob="LogThenDrop"))))
    assert told(*changes) == [("added", "opens", '"*".log_oob', "Ignore", "LogThenDrop")]
    assert changes[0].text.startswith("external hosts pass RCPT for every domain that no other entry matches")


@pytest.mark.parametrize("permits", [False, True])
def test_an_entry_that_changes_nothing(permits: bool) -> None:
    """An entry that says what was so without it is told, as changing nothing."""
    rest = [entry("*", relay_to=True)] if permits else []
    (change,) = domain_changes(side(*rest), side(*rest, entry("[192.0.2.1]", relay_to=permits)))
    assert told(change) == [("added", "neither", '"[192.0.2.1]"', None, '"[192.0.2.1]"')]
    assert change.text.endswith(': "*" permitted the same' if permits else ": it permits nothing, as before")


def test_what_served_before_may_be_gone() -> None:
    """An entry that permits what another did until it was removed is told in the past."""
    old, new = side(entry("*", relay_to=True)), side(entry("a.example", relay_to=True))
    assert 'no effect for a.example: "*" permitted the same' in {change.text for change in domain_changes(old, new)}


def test_a_listener_of_its_own() -> None:
    """What changes on one listener only is told for it, and what it has in common with all is told once."""
    own = entry("*.example.com", OTHER, log_oob="Ignore")
    changes = list(domain_changes(side(), side(WILD, own)))
    assert [(change.listener, change.effect, change.key) for change in changes] == [
        (None, "opens", '"*.example.com".log_oob'),
        (OTHER, "neither", own.path),
    ]


def test_a_shared_entry_comes_to_light() -> None:
    """When a listener loses an entry, the names below it find those for every listener; each such is told."""
    bounce, own = entry("bounce.example.com", log_arf="LogThenDrop"), entry("*.example.com", OTHER, log_oob="Ignore")
    changes = list(domain_changes(side(bounce, own), side(bounce)))
    assert [(change.kind, change.listener, change.effect, change.key) for change in changes] == [
        ("domain", OTHER, "neither", own.path),
        ("lookup", OTHER, "opens", "bounce.example.com"),
    ]


def test_what_all_listeners_have_in_common_is_told_once() -> None:
    """A listener whose own entries change is not told again what changes for every listener."""
    own = entry("z.net", OTHER, relay_to=True)
    changes = list(domain_changes(side(WILD), side(WILD, DEEP, own)))
    assert [change.key for change in changes if change.listener == OTHER] == [f"{own.path}.relay_to"]


def test_a_name_and_those_below_it_that_part() -> None:
    """A name and those below it are told together only where both find the same."""
    shared = entry("b.com", log_arf="LogThenDrop"), entry("*.b.com", log_oob="LogThenDrop")
    own = entry("*.com", OTHER, log_oob="Ignore")
    changes = list(domain_changes(side(*shared, own), side(*shared)))
    assert [(change.key, change.new and change.new.value) for change in changes if change.kind == "lookup"] == [
        ("b.com", '"b.com"'),
        ("*.b.com", '"*.b.com"'),
    ]


LABELS = st.sampled_from(["a", "b", "c"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
DOMAINS = st.one_of(NAMES, NAMES.map(lambda name: f"*.{name}"), st.sampled_from(["*", "[192.0.2.1]", ""]))
LISTENERS = st.sampled_from([ANY_LISTENER, ANY_LISTENER, OTHER])
ENTRIES = st.builds(entry, DOMAINS, LISTENERS, log_oob=st.sampled_from([*MODES]), relay_to=st.booleans())
FILES = st.lists(ENTRIES, max_size=8, unique_by=lambda made: (made.listener, made.domain)).map(tuple)


# Parents of names that no address has, by listener: a walk ends there.
NODES = st.dictionaries(LISTENERS, st.lists(NAMES, max_size=2), max_size=2)


def with_nodes(listed: tuple[DomainEntry, ...], nodes: dict[str, list[str]]) -> Side:
    return side(*listed) if not nodes else side_of(replace(settings(), domains=table_of(listed, nodes)))


def test_a_name_of_no_address_hid_others() -> None:
    """Without it, names find the wildcard above them: that opens something, and no entry has changed."""
    listed = (entry("*.a.test", log_oob="LogThenDrop"),)
    (change,) = domain_changes(with_nodes(listed, {ANY_LISTENER: ["x.a.test"]}), with_nodes(listed, {}))
    assert (change.kind, change.effect, change.key) == ("lookup", "opens", "x.a.test and *.x.a.test")


@hypothesis.settings(deadline=None)  # a table is memory that the system gives
@given(FILES, FILES, NODES, NODES, NAMES | st.just(""), st.sampled_from([OTHER, "10.2.2.2:25"]))
def test_no_name_changes_unsaid_by_nodes(
    old: tuple[DomainEntry, ...],
    new: tuple[DomainEntry, ...],
    old_nodes: dict[str, list[str]],
    new_nodes: dict[str, list[str]],
    name: str,
    listener: str,
) -> None:
    """The same with names that no address has."""
    sides = with_nodes(old, old_nodes), with_nodes(new, new_nodes)
    before, after = (one.evaluator.policy.lookup(listener, name) for one in sides)
    if permitted(before) != permitted(after):
        assert any(covers(change, name, before, after) for change in domain_changes(*sides))


def covers(change: RuleChange, name: str, before: DomainEntry | None, after: DomainEntry | None) -> bool:
    """Tell whether a change speaks of what `name` found and finds."""
    if change.kind == "domain":
        return any(found is not None and change.key.startswith(found.path) for found in (before, after))
    return any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in change.key.split(" and "))


def permitted(found: DomainEntry | None) -> tuple[Any, ...]:
    return (False, MODES["Ignore"]) if found is None else (found.relay_to, found.log_oob)


@given(FILES, FILES, st.one_of(NAMES, st.just("[192.0.2.1]"), st.just("")), st.sampled_from([OTHER, "10.2.2.2:25"]))
def test_no_name_changes_unsaid(old: tuple[DomainEntry, ...], new: tuple[DomainEntry, ...], name: str, listener: str) -> None:
    """Whatever name may do something else than before, on whatever listener, some change speaks of it."""
    sides = side(*old), side(*new)
    before, after = (one.evaluator.policy.lookup(listener, name) for one in sides)
    if permitted(before) != permitted(after):
        assert any(covers(change, name, before, after) for change in domain_changes(*sides))


@given(FILES, FILES)
def test_what_is_said_of_a_name_is_so(old: tuple[DomainEntry, ...], new: tuple[DomainEntry, ...]) -> None:
    """A name that is told to find another entry does find it, and may do something else by that."""
    sides = side(*old), side(*new)
    for change in domain_changes(*sides):
        if change.kind == "lookup":
            name = change.key.partition(" and ")[0].replace("*", "nobody")
            before, after = (one.evaluator.policy.lookup(change.listener or "10.2.2.2:25", name) for one in sides)
            assert permitted(before) != permitted(after)
            assert (change.old and change.old.value, change.new and change.new.value) == (
                before and before.path,
                after and after.path,
            )


def connects(old: Side, new: Side) -> list[tuple[str | None, Any, Any]]:
    return [
        (change.listener, change.old and change.old.value, change.new and change.new.value)
        for change in connect_changes(old, new)
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [WWW], []),
        ([], [WILD], [(None, "reject", "continue")]),
        ([WILD], [], [(None, "continue", "reject")]),
        ([], [entry("a.com", OTHER, relay_to=True)], [(OTHER, "reject", "continue")]),
        (
            [entry("a.com", OTHER, relay_to=False)],
            [WILD, entry("a.com", OTHER, relay_to=False)],
            [(None, "reject", "continue")],
        ),
    ],
)
def test_connect(old: list[DomainEntry], new: list[DomainEntry], expected: list[tuple[str | None, str, str]]) -> None:
    """Where the first entry that permits anything came, or the last one went, strangers meet something else at connect."""
    assert connects(side(*old), side(*new)) == expected


def test_connect_without_strangers() -> None:
    """Where everybody is a relay host, or nobody is rejected at connect, there is nothing to tell."""
    everybody = ["0.0.0.0/0", "::/0"]
    assert connects(side(relay_hosts=everybody), side(WILD, relay_hosts=everybody)) == []
    assert connects(side(reject_at_connect=False), side(WILD, reject_at_connect=False)) == []
    assert connects(side(reject_at_connect=False), side()) == [(None, "continue", "reject")]
