"""Settings -> one immutable Policy: who may send what to whom, and why. No I/O, no clock, no log, no memory of the past."""

from sidecar.core.policy.address import without_route
from sidecar.core.policy.answers import Because, ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.policy.message import judge_message
from sidecar.core.policy.policy import Policy, compile_policy

__all__ = [
    "Because",
    "ConnectAnswer",
    "MessageAnswer",
    "Policy",
    "RecipientAnswer",
    "compile_policy",
    "judge_message",
    "without_route",
]
