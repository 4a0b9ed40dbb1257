"""What a message is judged by: a policy, and the settings that it was compiled from. A reload replaces both at once.

Owns which rules are the newest. Never compiles any, and never decides anything.
"""

from msgspec import Struct

from sidecar.core.policy import Policy
from sidecar.core.settings.values import Settings


class Rules(Struct, frozen=True, kw_only=True, eq=False):
    """A policy and its settings. Two rules are the same only if they are one object."""

    policy: Policy
    settings: Settings


class NoRulesError(Exception):
    """The newest rules could not be compiled here, and those from before must not be used any more."""


class NewestRules:
    """The rules for the next message of any session of a process. Call it for the newest ones, in any thread."""

    def __init__(self, rules: Rules) -> None:
        self._rules: Rules | None = rules

    def __call__(self) -> Rules:
        """Return the newest rules. Raise NoRulesError after `withdraw`."""
        rules = self._rules
        if rules is None:
            raise NoRulesError("this worker could not take the reloaded settings, and those from before are out of use")
        return rules

    def replace(self, rules: Rules) -> None:
        """Use these rules from the next message on."""
        self._rules = rules

    def withdraw(self) -> None:
        """Use no rules any more: the next message of each session is tempfailed."""
        self._rules = None
