"""The states of nodes in JSON: what other nodes and other programs can write there."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.sharing import ArrivedState
from sidecar.suppression.rules import Event
from sidecar.suppression.states import RejectedStateError, address_of, decode, encode, key_of
from tests.suppression.nodes import NOW, A, add, complaint, remove


def state_of(event: Event, **more: Any) -> ArrivedState:
    made = encode(A, "reports" if event.kind == "report" else "changes", [event], node="mx0", store="plain")
    content = {**msgspec.json.decode(made.content), **more}
    values = {"node": "mx0", "number": 1, "stored": NOW * 1_000_000, "kind": made.kind, "key": made.key}
    return ArrivedState(**{**values, "content": msgspec.json.encode(content)})  # type: ignore[arg-type]


def rejection(state: ArrivedState) -> tuple[str, bool]:
    with pytest.raises(RejectedStateError) as caught:
        decode(state, store="plain")
    return str(caught.value), caught.value.later


@pytest.mark.parametrize(
    ("state", "why", "later"),
    [
        (state_of(complaint(), version=2, events=7), "its version is 2, and this program reads 1", True),
        (state_of(complaint(), store="hashed 00ff"), "all nodes need the same `store`", True),
        (state_of(complaint(), node="mx1"), "its subject is of another node or address", False),
        (state_of(complaint(), address="b@example.net"), "its subject is of another node or address", False),
        (replace(state_of(remove()), kind="reports"), "it has an event that is not valid", False),
        (replace(state_of(add()), kind="reports"), "it has an event that is not valid", False),
        (replace(state_of(complaint()), kind="changes"), "it has an event that is not valid", False),
        (state_of(replace(complaint(), word="a\nb")), "it has an event that is not valid", False),
        (state_of(replace(complaint(), word="a" * 201)), "it has an event that is not valid", False),
        (state_of(replace(complaint(), id="a" * 65)), "it has an event that is not valid", False),
        (state_of(replace(complaint(), time=10**18)), "it has an event that is not valid", False),
        (state_of(replace(complaint(), verified_ids=("a\nb",))), "it has an event that is not valid", False),
        (state_of(replace(complaint(), verified_ids=("a" * 129,))), "it has an event that is not valid", False),
        (state_of(replace(complaint(), verified_ids=("",))), "it has an event that is not valid", False),
        (state_of(replace(add(), expires=-1)), "it has an event that is not valid", False),
        *(
            (replace(state_of(complaint(), address=one), key=key_of(one)), "its address is not one of a list", False)
            for one in ("", "a", "a\n@b", "\u202e@b", "a@b\x1b", "a@" + "b" * 4000)
        ),
        (replace(state_of(complaint()), content=b"[" * 100_000), "it is no state", False),
        (replace(state_of(complaint()), content=b'{"stream":"s","seq":1}'), "it is no state", False),
        (replace(state_of(complaint()), content=b"\xff"), "it is no state", False),
    ],
)
def test_rejected(state: ArrivedState, why: str, *, later: bool) -> None:
    assert (why in (found := rejection(state))[0], found[1]) == (True, later)


@given(address=st.text(max_size=330))
def test_keys(address: str) -> None:
    key = key_of(address)
    assert address_of(key) == address
    assert set(key) <= {*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"}
    assert address_of(key + "=") is None
