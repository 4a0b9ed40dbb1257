"""A changed configuration: a new table changes its own name and no other, and what is decided otherwise is known."""

import pytest
from hypothesis import assume, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.changes import Draft, UnprovedError
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, LogMode
from tests.building import entry, settings
from tests.core.evaluate.recorded.worlds import LISTENER, NAMES, PROBES, configurations

WRITABLE = st.sampled_from([name for name in NAMES if name != "nowhere.org"])
VALUES = st.sampled_from(
    [{"relay_to": True}, {"relay_to": False}, {"log_oob": LogMode.LOG_THEN_DROP}, {"log_arf": LogMode.IGNORE}]
)


@given(configurations(), st.sampled_from([ANY_LISTENER, LISTENER]), WRITABLE, VALUES)
@tries(max_examples=200, deadline=None)
def test_a_new_table_is_for_its_name_only(under: Settings, listener: str, domain: str, values: dict[str, object]) -> None:
    """No other name has another verdict on any listener, and `moved` has each name that has one."""
    before = Evaluator(under)
    has_map = any(it.listener == listener for it in under.domains) or listener == ANY_LISTENER
    assume(has_map)
    draft = Draft(before)
    draft.set(listener, domain, values, file="domains.toml")
    after = Evaluator(replace(under, domains=tuple(draft.after.settings.domains)))
    moved = {(each.listener, each.names.name) for each in draft.moved() if not each.names.below}
    assert {name for _, name in moved} <= {domain}
    for probe in PROBES:
        (recipient,) = probe.recipients
        name = recipient.removeprefix("x@")
        old, new = before.judge(probe), after.judge(probe)
        assert draft.after.judge(probe).outcome == new.outcome
        if {old.outcome, new.outcome} <= {"rejected_at_connect", "rejected_at_rcpt"}:
            continue
        assert old.outcome == new.outcome or name == domain, probe
        # A listener without rules of its own is as any other.
        where = probe.listener if probe.listener in before.policy.listeners else ANY_LISTENER
        assert old.outcome == new.outcome or (where, name) in moved, probe


def test_what_the_names_below_keep() -> None:
    """The names between the new one and the wildcard, and those below each of them, get tables of their own."""
    draft = Draft(Evaluator(settings([entry("*", relay_to=True), entry("*.example.com", log_oob="LogThenDrop")])))
    draft.set(ANY_LISTENER, "b.a.example.com", {"log_arf": LogMode.LOG_THEN_DROP})
    assert [domain for _, domain in draft.added] == [
        *("b.a.example.com", "*.b.a.example.com", "a.example.com", "*.a.example.com"),
    ]
    assert [(str(each.names), each.opens) for each in draft.moved()] == [("b.a.example.com", True)]


def test_what_would_need_too_many_tables() -> None:
    """A name of ten labels is not written with twenty tables."""
    draft = Draft(Evaluator(settings([entry("*", relay_to=True), entry("*.example.com", log_oob="LogThenDrop")])))
    with pytest.raises(UnprovedError, match="more than 12 tables"):
        draft.set(ANY_LISTENER, f"{'a.' * 10}example.com", {"relay_to": True})


def test_a_listener_keeps_what_its_wildcard_closes() -> None:
    """Its own map has only `*`. A new entry there must not open a name below it that all other listeners may relay to."""
    everywhere = [entry("a.example.com", relay_to=True), entry("*.b.example.com", log_oob="LogThenDrop")]
    before = Evaluator(settings([entry("*", LISTENER), *everywhere]))
    draft = Draft(before)
    draft.set(LISTENER, "example.com", {"relay_to": True})
    assert [domain for _, domain in draft.added] == ["example.com", "*.example.com", "com", "*.com"]
    assert [str(each.names) for each in draft.moved()] == ["example.com"]
    (probe,) = [it for it in PROBES if (it.listener, it.recipients, it.kind) == (LISTENER, ("x@a.example.com",), "other")]
    assert before.judge(probe).outcome == Disposition.REJECTED_AT_CONNECT
    assert draft.after.judge(probe).outcome == Disposition.REJECTED_AT_RCPT


def test_an_opening_that_nobody_asked_for_is_seen() -> None:
    """A change of a wildcard shows each name that it opens."""
    draft = Draft(Evaluator(settings([entry("*.example.com", log_oob="LogThenDrop"), entry("a.example.com")])))
    draft.set(ANY_LISTENER, "*.example.com", {"relay_to": True})
    assert [(str(each.names), each.opens) for each in draft.moved()] == [("*.example.com", True)]


def test_a_sender_that_can_relay_is_an_opening() -> None:
    """Also where any host could send to its domain already: now it can send to every domain."""
    draft = Draft(Evaluator(settings([entry("*", relay_from_authz=["daniel"]), entry("a.example.com", relay_to=True)])))
    draft.remove(ANY_LISTENER, "a.example.com")
    assert [(str(each.names), each.opens) for each in draft.moved()] == [("a.example.com", True)]


def test_a_removed_entry_is_seen() -> None:
    """Its name, those above it and those below it, with what they find then."""
    before = Evaluator(settings([entry("*.example.com", relay_to=True), entry("b.a.example.com", log_oob="LogThenDrop")]))
    draft = Draft(before)
    draft.remove(ANY_LISTENER, "b.a.example.com")
    moved = {str(each.names): each.opens for each in draft.moved()}
    assert moved == dict.fromkeys(["b.a.example.com", "*.b.a.example.com", "a.example.com", "*.a.example.com"], True)
    assert len(draft.after.settings.domains) == 1


def test_names_that_enter_the_map_of_a_listener_count_as_opened() -> None:
    """Each of them can have had an entry of its own for every listener."""
    everywhere = [entry("*.example.com"), entry("a.example.com", log_oob="LogThenDrop")]
    before = Evaluator(settings([*everywhere, entry("other.test", LISTENER, log_oob="LogThenDrop")]))
    draft = Draft(before)
    draft.set(LISTENER, "*.example.com", {"relay_to": False})
    assert [(each.listener, str(each.names), each.opens) for each in draft.moved()] == [(LISTENER, "*.example.com", True)]
