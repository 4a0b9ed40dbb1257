"""Stored mail put through the policy: what would have become of it, message by message, and in total.

Files, Maildirs and mboxes in; outcomes and counts out. The verdicts are the session's own: nothing here decides one.
"""

from sidecar.commands.replay.judge import Judge, Judged, NotJudged
from sidecar.commands.replay.stores import Piece, tasks, weigh
from sidecar.commands.replay.tally import ReasonGroup, ReplayTally
from sidecar.commands.replay.work import JudgedBatch, replay
from sidecar.commands.replay.workers import WorkerLost, WorkerPool

__all__ = [
    "Judge",
    "Judged",
    "JudgedBatch",
    "NotJudged",
    "Piece",
    "ReasonGroup",
    "ReplayTally",
    "WorkerLost",
    "WorkerPool",
    "replay",
    "tasks",
    "weigh",
]
