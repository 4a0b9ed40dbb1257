"""What one external host can cost a worker with a megabyte, or with ten: CPU time and memory, on the direct engine."""

import pytest

from tests.cost.inputs import INPUTS, MEGABYTE, REPEATED, Input
from tests.cost.judging import exceeded
from tests.cost.lasting import lasting_fault
from tests.cost.measuring import measure
from tests.cost.wire import Wire


@pytest.mark.parametrize("one", INPUTS, ids=lambda one: one.name)
def test_cost(one: Input) -> None:
    """The most expensive inputs that are known stay within the limits."""
    wire = one.wire()
    cost = measure(bytes(wire.packets), one.settings, repeats=1)
    fault = lasting_fault(wire, cost, one.settings, records=one.records)
    assert fault is None, fault


@pytest.mark.parametrize("one", REPEATED, ids=lambda one: one.name)
def test_repeated_records(one: Input) -> None:
    """The size of the records is known before they are in memory, whatever text has most of it."""
    cost = measure(bytes(one.wire().packets), one.settings, repeats=1)
    assert cost.records == 1
    assert cost.memory < 64 * MEGABYTE


def test_an_ordinary_megabyte() -> None:
    """The limits leave room for what they should: an attachment that is not looked at is far below them."""
    wire = Wire().envelope(b"o@open.example").content(b"Subject: hello\n\n" + b"x" * MEGABYTE)
    cost = measure(bytes(wire.packets), INPUTS[0].settings)
    assert exceeded(wire, cost) is None
    assert cost.memory < MEGABYTE
