"""What a session gets from outside: time and ids, and the newest policy with its settings. A reload replaces both at once.

Owns which rules are the newest. Never compiles any, and never decides anything.
"""

from collections.abc import Callable

from msgspec import Struct

from sidecar.core.policy import Policy
from sidecar.core.session.suppressing import SuppressionList
from sidecar.core.settings.settings import Settings


class World(Struct, frozen=True, kw_only=True):
    """The time in seconds since 1970, fresh ids, and the id of this installation. Ids are UUIDs of 36 characters.

    `suppression` reads the suppression list; without it no recipient is looked up.
    """

    clock: Callable[[], float]
    new_id: Callable[[], str]
    node_id: str
    suppression: SuppressionList | None = None


class Rules(Struct, frozen=True, kw_only=True, eq=False):
    """A policy and its settings. Two rules are the same only if they are one object."""

    policy: Policy
    settings: Settings


class NoRulesError(Exception):
    """This process could not compile the newest rules, and the previous rules are no longer valid."""


class NewestRules:
    """The rules for the next message of each session of a process: any thread may call it, or replace `rules`.

    With None the next message of each session is tempfailed.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules: Rules | None = rules

    def __call__(self) -> Rules:
        """Return the newest rules. Raise NoRulesError if there are none."""
        if (rules := self.rules) is None:
            raise NoRulesError("this worker could not compile the reloaded settings, and the previous ones are no longer valid")
        return rules
