"""Whether strangers are rejected at connect, or only later: one entry that permits something to anybody makes the difference.

Owns this one consequence. Never judges a peer: the policy does.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from sidecar.commands.diff.values import RuleChange, Side, Spot
from sidecar.core.names import IPAddress
from sidecar.core.policy import ConnectAnswer
from sidecar.core.settings.values import ANY_LISTENER

# Addresses that nobody has (RFC 5737, RFC 3849): whoever lists none of them as a relay host has strangers among these.
_STRANGERS: Final = tuple(map(ip_address, ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1")))


def connect_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Give the listeners on which strangers are rejected at connect on one side only."""
    everywhere = _change(ANY_LISTENER, old, new)
    if everywhere is not None:
        yield everywhere
    listeners = dict.fromkeys(entry.listener for side in (old, new) for entry in side.settings.domains)
    for listener in listeners:
        change = None if listener == ANY_LISTENER else _change(listener, old, new)
        if change is not None and (everywhere is None or change.text != everywhere.text):
            yield change


def _change(listener: str, old: Side, new: Side) -> RuleChange | None:
    stranger = next((peer for peer in _STRANGERS if _is_stranger(peer, listener, old, new)), None)
    if stranger is None:
        return None
    before, after = (_heard(side.policy.at_connect(stranger, listener), side) for side in (old, new))
    if before.value == after.value:
        return None
    return RuleChange(
        kind="connect",
        action="changed",
        effect="neither",
        listener=None if listener == ANY_LISTENER else listener,
        key="CONNECT",
        old=before,
        new=after,
        text="strangers are heard until they name a recipient; that alone permits nothing"
        if after.value == "continue"
        else "strangers are rejected before they name a recipient; nobody of them could have sent anything",
    )


def _is_stranger(peer: IPAddress, listener: str, old: Side, new: Side) -> bool:
    answers = (side.policy.at_connect(peer, listener) for side in (old, new))
    return all(answer.deferred or not answer.accept for answer in answers)


def _heard(answer: ConnectAnswer, side: Side) -> Spot:
    """Say what a stranger meets, and which rule makes it so, where one does."""
    if not answer.accept and side.settings.refuse_at_connect:
        return Spot(value="reject")
    rule = side.because(answer.because[-1])
    return Spot(value="continue", file=rule.file, line=rule.line) if answer.deferred else Spot(value="continue")
