"""The limits on what an input may cost.

Owns the numbers. Never measures.
"""

from tests.cost.measuring import Cost
from tests.cost.wire import Wire

_MEGABYTE = 1 << 20
# Seconds for a megabyte, and for what costs the same however short it is: a message with its record on disk, a recipient with
# its answer, in whatever script, a record beyond the first. All on the reference machine: an ordinary report takes 0.3 ms.
_CPU = 0.060
_MESSAGE, _RECIPIENT, _RECORD = 0.0005, 0.00008, 0.00003
# A shared machine is slower than its own calibration now and then.
_NOISE = 1.5
# Bytes beyond the message itself: for a megabyte, and at the most. Nearly all inputs need less than 5 MB; a megabyte with one
# emoji, for which Python takes four bytes a character, and a report with 1,001 records need some 6.
_MEMORY = int(6.5 * _MEGABYTE)
_MOST_MEMORY = 100 * _MEGABYTE


def cpu_share(wire: Wire, cost: Cost, *, records: int = 0) -> float:
    """Return the CPU time of an input as a part of what it may take."""
    allowed = _CPU * wire.sent / _MEGABYTE + _MESSAGE * wire.messages + _RECIPIENT * wire.recipients + _RECORD * records
    return cost.cpu / allowed / _NOISE


def memory_share(wire: Wire, cost: Cost) -> float:
    """Return the memory of an input, beyond its size, as a part of what it may take."""
    allowed = min(_MOST_MEMORY, _MEMORY * max(0.5, wire.sent / _MEGABYTE))
    return (cost.memory - wire.sent) / allowed


def exceeded(wire: Wire, cost: Cost, *, records: int = 0) -> str | None:
    """Return which limit the cost of an input exceeds, or None."""
    size = f"{wire.sent} bytes in {wire.messages} messages to {wire.recipients} recipients"
    if (share := cpu_share(wire, cost, records=records)) > 1:
        return f"{size} took {cost.cpu:.3f} s of CPU time, {share:.2f} times what is allowed"
    if (share := memory_share(wire, cost)) > 1:
        return f"{size} took {cost.memory / _MEGABYTE:.1f} MB of memory, {share:.2f} times what is allowed"
    return None
