"""The values of a comparison. Their fields are those of `diff --json`, which scripts read."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.places import Place
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator, Undecided
from sidecar.core.policy import Because
from sidecar.core.settings.values import Where
from sidecar.core.text import printable

Effect = Literal["opens", "closes", "neither"]
"""`opens`: mail gets further, from rejected to dropped to relayed. `closes`: the opposite."""

EFFECTS: tuple[Effect, ...] = ("opens", "closes", "neither")


def effect_of(before: int, after: int) -> Effect:
    """Return the effect of a change of how far mail gets."""
    return "opens" if after > before else "closes" if after < before else "neither"


Kind = Literal["relay_hosts", "setting", "domain", "lookup", "connect"]
"""The last two are consequences of other changes: names that find another entry, external hosts rejected earlier or later."""

CONSEQUENCES: frozenset[Kind] = frozenset({"lookup", "connect"})

Action = Literal["added", "removed", "changed"]


class Spot(Struct, frozen=True, kw_only=True):
    """A value and its place. `file` and `line` are None for a default, or if the line is unknown."""

    value: Any
    file: str | None = None
    line: int | None = None

    @property
    def place(self) -> str | None:
        """`file:line`, or None."""
        return None if self.file is None else f"{self.file}:{self.line}"


class RuleChange(Struct, frozen=True, kw_only=True):
    """One difference between two configurations.

    `key` is a key path, or the names of a `lookup`. For a `domain`, `action` is about its entry, `old` is what its names found
    before, `new` what they find now. Otherwise `old` is None if the key was not set. `danger`: it permits something to most of
    the internet. `text` is a sentence without a full stop.
    """

    kind: Kind
    action: Action
    effect: Effect = "neither"
    danger: bool = False
    listener: str | None = None
    key: str
    old: Spot | None = None
    new: Spot | None = None
    text: str


class Side(Struct, frozen=True, kw_only=True, eq=False):
    """One of the two configurations.

    `file` is its settings file as the operator wrote it, `folder` the absolute path of its folder, `place` its lines.
    """

    file: str
    folder: PurePath
    place: Place
    evaluator: Evaluator

    def spot(self, value: object, where: Where | None) -> Spot:
        """Return a value with its place."""
        return Spot(value=value) if where is None else Spot(value=value, file=self.path_of(where.file), line=where.line)

    def spot_of(self, value: object, *keys: str) -> Spot:
        """Return the value of a key of the settings file, by its path of tables. A default has no line."""
        place = self.place
        for key in keys:
            if key not in place.inner:
                return Spot(value=value)
            place = place.inner[key]
        return Spot(value=value, file=self.path_of(self.file), line=place.line)

    def because(self, reason: Because) -> Because:
        """Return a reason of the policy with the path of `path_of`."""
        return reason if reason.file is None else replace(reason, file=self.path_of(reason.file))

    def path_of(self, file: str) -> str:
        """Return the path of a settings file, so that the `listener_domains.toml` of both sides differ."""
        return printable(file if file == self.file else str(PurePath(self.file).parent / file))


What = Literal["newly_accepted", "newly_rejected", "delivery_changed", "rejected_elsewhere"]
"""How the decision on an envelope changes.

`newly_accepted`: it was rejected and is accepted, at least as a report, or it was accepted only as a report; `newly_rejected`:
the opposite. `delivery_changed`: accepted as before, but relayed where it was dropped, or dropped where it was relayed.
`rejected_elsewhere`: rejected as before, at another stage.
"""


class Count(Struct, frozen=True, kw_only=True):
    """A name and its count, which is a lower bound."""

    name: str
    count: int


class Example(Struct, frozen=True, kw_only=True, rename={"sender": "from", "recipient": "to"}):
    """One of the envelopes with a different decision. `time` is its record's, RFC 3339."""

    id: str
    time: str
    peer: str
    sender: str
    recipient: str


class Group(Struct, frozen=True, kw_only=True):
    """Envelopes with a different decision: by `old_rule` before and `new_rule` now, None if several rules decide.

    `peers` and `domains` (of recipients) are the most frequent. A disposition is None if the record does not contain what the
    decision depends on; `undecided` then names it.
    """

    effect: Effect
    what: What
    old_disposition: Disposition | None
    new_disposition: Disposition | None
    undecided: Undecided | None
    count: int = 0
    old_rule: Because | None
    new_rule: Because | None
    peers: tuple[Count, ...] = ()
    domains: tuple[Count, ...] = ()
    example: Example


class Verdicts(Struct, frozen=True, kw_only=True):
    """The decisions on recorded envelopes.

    `unreadable` counts lines that are no records, `passed_over` records of outgoing mail, of mail over HTTP, or without a peer.
    `differ` counts the `envelopes` with a different decision: the sum of the next three. `rejected_elsewhere` are rejected by
    both, at another stage. `unknown_listener` counts those whose decision can depend on a listener that is not recorded.
    """

    records: int
    unreadable: int
    passed_over: Mapping[str, int]
    envelopes: int
    unknown_listener: int
    differ: int
    newly_accepted: int
    newly_rejected: int
    delivery_changed: int
    rejected_elsewhere: int
    groups: tuple[Group, ...]
