"""What becomes of a complete message, over every combination of what a recipient may be and the message is."""

from itertools import product

import pytest

from sidecar.core.policy import Because, RecipientAnswer, judge_message
from sidecar.core.settings.values import LogMode

BOOLS = [False, True]


def _recipient(address: str, *, relay: bool, log_oob: LogMode, log_arf: LogMode) -> RecipientAnswer:
    reasons = [Because(text="may relay")] if relay else []
    reasons += [
        Because(file="f", line=1, key=f"x.{key}", text=key)
        for key, mode in (("log_oob", log_oob), ("log_arf", log_arf))
        if mode is not LogMode.IGNORE
    ]
    return RecipientAnswer(address=address, domain="x", relay=relay, log_oob=log_oob, log_arf=log_arf, because=tuple(reasons))


def _expected(*, relay: bool, log_oob: LogMode, log_arf: LogMode, is_oob: bool, is_arf: bool) -> tuple[bool, str | None]:
    """The contract's three rules, in its own order."""
    if log_arf is not LogMode.IGNORE and is_arf:
        return log_arf is LogMode.LOG_THEN_RELAY, "arf"
    if log_oob is not LogMode.IGNORE and is_oob:
        return log_oob is LogMode.LOG_THEN_RELAY, "oob"
    return relay, None


@pytest.mark.parametrize(("is_oob", "is_arf"), list(product(BOOLS, BOOLS)))
@pytest.mark.parametrize(("relay", "log_oob", "log_arf"), list(product(BOOLS, LogMode, LogMode)))
def test_one_recipient(relay: bool, log_oob: LogMode, log_arf: LogMode, is_oob: bool, is_arf: bool) -> None:
    """A feedback report comes before a bounce; other messages are relayed only if the peer is permitted to relay."""
    recipient = _recipient("a@x", relay=relay, log_oob=log_oob, log_arf=log_arf)
    if not recipient.accept:
        return
    answer = judge_message([recipient], is_oob=is_oob, is_arf=is_arf)
    relayed, taken_as = _expected(relay=relay, log_oob=log_oob, log_arf=log_arf, is_oob=is_oob, is_arf=is_arf)
    assert (answer.results[0].relayed, answer.results[0].logged_as) == (relayed, taken_as)
    assert answer.action == ("accept" if relayed else "discard" if taken_as else "reject")
    assert answer.logged_as == taken_as


RELAY = {"relay": True, "log_oob": LogMode.IGNORE, "log_arf": LogMode.IGNORE}
DROP = {"relay": False, "log_oob": LogMode.LOG_THEN_DROP, "log_arf": LogMode.IGNORE}
ARF_ONLY = {"relay": False, "log_oob": LogMode.IGNORE, "log_arf": LogMode.LOG_THEN_RELAY}


@pytest.mark.parametrize(
    ("recipients", "is_oob", "is_arf", "action", "relayed"),
    [
        ([RELAY, RELAY], False, False, "accept", [True, True]),
        ([RELAY, DROP], False, False, "accept", [True, False]),
        ([RELAY, DROP], True, False, "accept", [True, False]),
        ([DROP, ARF_ONLY], True, False, "discard", [False, False]),
        ([DROP, ARF_ONLY], False, True, "accept", [False, True]),
        ([DROP, ARF_ONLY], False, False, "reject", [False, False]),
    ],
)
def test_several_recipients(
    recipients: list[dict[str, LogMode]],
    is_oob: bool,
    is_arf: bool,
    action: str,
    relayed: list[bool],
) -> None:
    """Each recipient is judged on its own; the message is rejected if it is relayed to none and a report for none."""
    answers = [_recipient(f"{number}@x", **values) for number, values in enumerate(recipients)]  # type: ignore[arg-type]  # the table mixes types
    answer = judge_message(answers, is_oob=is_oob, is_arf=is_arf)
    assert answer.action == action
    assert [result.relayed for result in answer.results] == relayed
