"""What changes between two configurations: as rules, and as verdicts on recorded envelopes. No I/O, no clock."""

from sidecar.commands.diff.rules import Listing, changes
from sidecar.commands.diff.values import EFFECTS, Change, Effect, Group, Side, Verdicts
from sidecar.commands.diff.verdicts import Replay

__all__ = ["EFFECTS", "Change", "Effect", "Group", "Listing", "Replay", "Side", "Verdicts", "changes"]
