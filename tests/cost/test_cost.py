"""What one external host can cost a worker with a megabyte, or with ten: CPU time and memory, on the direct engine."""

import pytest
from msgspec.structs import replace

from tests.cost.inputs import INPUTS, MEGABYTE, REPEATED, Input
from tests.cost.judging import cpu_share, exceeded
from tests.cost.measuring import measure
from tests.cost.wire import Wire

_TRIES = 10


@pytest.mark.parametrize("one", INPUTS, ids=lambda one: one.name)
def test_cost(one: Input) -> None:
    """The most expensive inputs that are known stay within the limits."""
    wire = one.wire()
    packets = bytes(wire.packets)
    cost = measure(packets, one.settings, repeats=1)
    # Other programs on the machine only make it slower, so one measurement within the limit shows that it holds.
    for _ in range(_TRIES):
        if cpu_share(wire, cost, records=one.records) <= 1:
            break
        cost = replace(cost, cpu=measure(packets, one.settings, trace=False).cpu)
    fault = exceeded(wire, cost, records=one.records)
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
