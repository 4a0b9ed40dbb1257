"""`sidecar diff`: compare two configurations, as rules and as verdicts on recorded envelopes."""

from sidecar.commands.diff.rules import Listing, changes
from sidecar.commands.diff.values import EFFECTS, Effect, Group, RuleChange, Side, Verdicts
from sidecar.commands.diff.verdicts import Replay

__all__ = ["EFFECTS", "Effect", "Group", "Listing", "Replay", "RuleChange", "Side", "Verdicts", "changes"]
