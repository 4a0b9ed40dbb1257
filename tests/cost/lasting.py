"""Whether an input exceeds its limits also when it is measured again.

Owns the number of tries. Never knows a limit.
"""

from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from tests.cost.judging import cpu_share, exceeded
from tests.cost.measuring import Cost, measure
from tests.cost.wire import Wire

_TRIES = 40


def lasting_fault(wire: Wire, cost: Cost, settings: Settings, *, records: int = 0) -> str | None:
    """Return which limit an input exceeds each time, or None. `cost` is the first measurement.

    Other programs on the machine only make it slower, so one measurement within the limit shows that it holds.
    """
    packets = bytes(wire.packets)
    for _ in range(_TRIES):
        if cpu_share(wire, cost, records=records) <= 1:
            break
        cost = replace(cost, cpu=measure(packets, settings, trace=False).cpu)
    return exceeded(wire, cost, records=records)
