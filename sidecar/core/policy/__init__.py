"""Settings -> one immutable Policy: which host can send what to which recipient, and why. No I/O, no clock, no state."""

from sidecar.core.policy.address import without_route
from sidecar.core.policy.answers import Because, ConnectAnswer, MessageAnswer, RecipientAnswer, judge_message
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
