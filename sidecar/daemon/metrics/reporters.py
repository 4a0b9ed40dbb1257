"""The forms of reports by reporter: the one metric whose label comes from outside, in bounded shared memory.

A worker has slots, each with a name and a count for each form. The rarest reporter gives its slot to a new one, and
its counts to the first slot, which stands for all others. A flood of names therefore displaces the rare ones only.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from threading import Lock
from typing import Final

from sidecar.core.records import FORMS, Form
from sidecar.daemon.metrics.series import OTHER

# The first one is for all others. A provider with many reports has one in each worker.
SLOTS: Final = 32
EXPOSED: Final = 64
"""Reporters in the output at most, besides the others: those with most reports."""

_NAME_BYTES: Final = 64
_COUNTS: Final = struct.Struct(f"={len(FORMS)}Q")
_SLOT_BYTES: Final = _NAME_BYTES + _COUNTS.size
SLOTS_BYTES: Final = SLOTS * _SLOT_BYTES
"""Bytes of the slots of one worker."""


def totals_of(workers: Iterable[memoryview]) -> Iterator[tuple[str, Form, int]]:
    """Yield name, form and count of each reporter in the slots of workers; those beyond `EXPOSED` are counted as others."""
    totals: Counter[tuple[str, Form]] = Counter()
    for name, counts in chain.from_iterable(map(_read, workers)):
        totals.update({(name, form): count for form, count in zip(FORMS, counts, strict=True)})
    sums: Counter[str] = Counter()
    for (name, _), count in totals.items():
        sums[name] += count * (name != OTHER)
    exposed = {name for name, count in sums.most_common(EXPOSED) if count}
    kept: Counter[tuple[str, Form]] = Counter({(OTHER, form): 0 for form in FORMS})
    for (name, form), count in totals.items():
        kept[name if name in exposed else OTHER, form] += count
    yield from ((name, form, kept[name, form]) for name in (*sorted(exposed), OTHER) for form in FORMS)


class Reporters:
    """Counts of one worker, from any thread. They continue those that the slots have."""

    def __init__(self, slots: memoryview) -> None:
        self._slots = slots
        self._lock = Lock()
        self._places = {name: place for place, (name, _) in enumerate(_read(slots)) if name}

    def add(self, reporter: str, form: Form) -> None:
        """Count a report. A reporter without a name is one of the others."""
        with self._lock:
            place = 0 if not reporter or reporter == OTHER else self._places.get(reporter)
            if place is None:
                place = self._new_place(reporter)
            counts = list(self._counts(place))
            counts[FORMS.index(form)] += 1
            self._write(place, counts)

    def _new_place(self, reporter: str) -> int:
        """Return a slot for a new reporter: a free one, or that of the rarest one."""
        name = reporter.encode()
        if len(name) > _NAME_BYTES:
            return 0
        place = min(range(1, SLOTS), key=lambda place: sum(self._counts(place)))
        others = map(sum, zip(self._counts(0), self._counts(place), strict=True))
        self._write(0, list(others))
        self._write(place, [0] * len(FORMS))
        self._places = {known: at for known, at in self._places.items() if at != place} | {reporter: place}
        start = place * _SLOT_BYTES
        self._slots[start : start + _NAME_BYTES] = name.ljust(_NAME_BYTES, b"\0")
        return place

    def _counts(self, place: int) -> tuple[int, ...]:
        return _COUNTS.unpack_from(self._slots, place * _SLOT_BYTES + _NAME_BYTES)

    def _write(self, place: int, counts: list[int]) -> None:
        _COUNTS.pack_into(self._slots, place * _SLOT_BYTES + _NAME_BYTES, *counts)


def _read(slots: memoryview) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and counts of each slot; the first one is for the others, and a free one has no name."""
    for place in range(SLOTS):
        start = place * _SLOT_BYTES
        name = bytes(slots[start : start + _NAME_BYTES]).rstrip(b"\0").decode("ascii", "replace")
        yield OTHER if place == 0 else name, _COUNTS.unpack_from(slots, start + _NAME_BYTES)
