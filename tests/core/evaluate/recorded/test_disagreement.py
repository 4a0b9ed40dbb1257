"""What disagrees between a log and a configuration, and what cannot."""

from typing import Any

import pytest

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.recorded.finding import Comparison, Disagreement, find
from sidecar.core.evaluate.recorded.follow_up import with_follow_ups
from sidecar.core.settings.settings import Settings
from tests.building import entry, settings
from tests.core.evaluate.recorded.samples import entry_of, ours, record, rejection

UNDER = settings(
    [
        entry("open.example", relay_to=True),
        entry("bounce.example", log_oob="LogThenDrop"),
        entry("both.example", log_oob="LogThenRelay"),
    ],
    relay_hosts=["10.0.0.0/24"],
)
OPEN, BOUNCE, BOTH, CLOSED = "x@open.example", "x@bounce.example", "x@both.example", "x@closed.example"
INSIDE = "10.0.0.7"


def compared(*made: dict[str, Any], under: Settings = UNDER) -> tuple[Comparison, list[Disagreement | None]]:
    evaluator, comparison = Evaluator(under), Comparison()
    printed = [comparison.add(find(it, evaluator)) for it in with_follow_ups([entry_of(one) for one in made])]
    return comparison, printed


def rcpt(address: str, code: int = 550, content: str = "relaying not permitted", **more: Any) -> dict[str, Any]:
    return rejection(f"RCPT TO:<{address}>", code, content, **more)


WOULD_ACCEPT: dict[str, list[dict[str, Any]]] = {
    "KumoMTA rejected a recipient that is open": [rcpt(OPEN)],
    "one that reports may come to": [rcpt(BOUNCE)],
    "a relay host": [rcpt(CLOSED, peer=INSIDE)],
    "we rejected it": [ours("Rejection", recipient=OPEN, answer=(550, "relaying not permitted", f"RCPT TO:<{OPEN}>"))],
    "a relay host at connect": [
        ours("Rejection", recipient="", peer=INSIDE, answer=(550, "relaying not permitted", "CONNECT"))
    ],
    "any peer at connect": [ours("Rejection", recipient="", answer=(550, "relaying not permitted", "CONNECT"))],
    "a message at its end": [ours("Rejection", recipient=OPEN, answer=(550, "relaying not permitted", "DATA"))],
    "a Reception and its Rejection": [record(recipient=OPEN), rejection("end")],
    "the Rejection of a relay host's message alone": [rejection("end", peer=INSIDE)],
}
WOULD_REFUSE: dict[str, list[dict[str, Any]]] = {
    "KumoMTA accepted what is closed": [record(recipient=CLOSED)],
    "and passed it on": [record(recipient=CLOSED), record("Delivery", recipient=CLOSED)],
    "we accepted it": [ours(recipient=CLOSED)],
    "a complaint where none is taken": [record("Feedback", recipient=CLOSED)],
    "mail for a domain of reports went out": [record(recipient=BOUNCE), record("Delivery", recipient=BOUNCE)],
    "a bounce where none is taken": [record(recipient=CLOSED), record("OOB", sender=CLOSED, recipient="y@z.test")],
}
ALIKE: dict[str, list[dict[str, Any]]] = {
    "accepted": [record(recipient=OPEN)],
    "relayed for a relay host": [record(recipient=CLOSED, peer=INSIDE)],
    "rejected": [rcpt(CLOSED)],
    "a bounce": [record(recipient=BOUNCE), record("OOB", sender=BOUNCE, recipient="y@z.test")],
    "a bounce of ours": [ours(recipient=BOUNCE)],
    "KumoMTA's Reception and its own Rejection": [record(recipient=BOUNCE), rejection("end")],
    "the same for a closed domain": [record(recipient=CLOSED), rejection("end")],
}
ASIDE: dict[str, list[dict[str, Any]]] = {
    "tempfailed": [rcpt(OPEN, 451, "4.4.5 later")],
    "rejected_for_other_reason": [rcpt(OPEN, 550, "5.1.1 user unknown")],
    "not_smtp": [record(recipient=CLOSED, reception_protocol="HTTP")],
    "unknown": [record(recipient=BOUNCE)],
}
# KumoMTA's mail over HTTP, with `meta = { 'received_via' }` in its log: an address without a port.
OVER_HTTP = [
    record(recipient=CLOSED, reception_protocol="HTTP", meta={"received_via": "127.0.0.1"}),
    record(recipient=CLOSED, reception_protocol="HTTP", meta={"received_via": "::1"}),
    record(recipient=CLOSED, meta={"received_via": "127.0.0.1"}),
]


@pytest.mark.parametrize("made", WOULD_ACCEPT.values(), ids=WOULD_ACCEPT)
def test_rejected_and_would_be_accepted(made: list[dict[str, Any]]) -> None:
    comparison, printed = compared(*made)
    assert [it.accepts for it in printed if it is not None] == [True]
    assert (comparison.would_accept, comparison.compared, comparison.left_out) == (1, 1, {})


@pytest.mark.parametrize("made", WOULD_REFUSE.values(), ids=WOULD_REFUSE)
def test_accepted_and_would_be_rejected(made: list[dict[str, Any]]) -> None:
    comparison, printed = compared(*made)
    (found,) = (it for it in printed if it is not None)
    assert not found.accepts
    assert found.recipient is None
    assert (comparison.would_reject, comparison.compared, comparison.left_out) == (1, 1, {})


@pytest.mark.parametrize("made", ALIKE.values(), ids=ALIKE)
def test_alike(made: list[dict[str, Any]]) -> None:
    """KumoMTA's Reception before its own rejection is part of the rejection, and a bounce counts once."""
    comparison, printed = compared(*made)
    assert not any(printed)
    assert (comparison.same, comparison.compared, comparison.left_out) == (1, 1, {})


@pytest.mark.parametrize("aside", ASIDE)
def test_what_cannot_disagree(aside: str) -> None:
    """A 4xx, a rejection for another cause, mail over HTTP and what is not known are counted apart."""
    comparison, printed = compared(*ASIDE[aside])
    assert printed == [None]
    assert (comparison.left_out, comparison.compared) == ({aside: 1}, 0)


@pytest.mark.parametrize("made", OVER_HTTP)
def test_mail_over_http_is_left_out(made: dict[str, Any]) -> None:
    """It can be read, and no listener policy applies to it, also where that depends on the listener."""
    for under in (UNDER, BY_LISTENER_OR_LOGIN):
        comparison, printed = compared(made, under=under)
        assert (printed, comparison.left_out, comparison.unreadable) == ([None], {"not_smtp": 1}, 0)


@pytest.mark.parametrize("relay_to", [False, True])
@pytest.mark.parametrize("log_arf", ["Ignore", "LogThenRelay", "LogThenDrop"])
@pytest.mark.parametrize("log_oob", ["Ignore", "LogThenRelay", "LogThenDrop"])
def test_rejected_at_the_end(log_oob: str, log_arf: str, *, relay_to: bool) -> None:
    """It disagrees only if this configuration accepts any message for the recipient, whatever it is."""
    under = settings([entry("a.example", relay_to=relay_to, log_oob=log_oob, log_arf=log_arf)])
    for made in ([record(), rejection("end")], [rejection("end", recipient=["x@a.example"])]):
        comparison, _ = compared(*made, under=under)
        assert (comparison.would_accept, comparison.would_reject) == (int(relay_to), 0)


BY_LISTENER_OR_LOGIN = settings(
    [
        entry("login.example", relay_from_authz=["daniel", "wez"]),
        entry("open.example", relay_to=True),
        entry("open.example", "10.1.1.1:25", relay_to=False),
        entry("inner.example", "10.1.1.1:25", relay_to=True),
    ],
    relay_hosts=["10.0.0.0/24"],
    listener_relay_hosts={"10.1.1.2:25": ["192.168.1.0/24"]},
)


@pytest.mark.parametrize(
    ("untold", "disagrees"),
    [
        (record(sender="a@login.example", recipient=CLOSED, tls_cipher="TLS13_AES_256"), {"authz_id": "other"}),
        (record(recipient="x@inner.example"), {"received_via": "10.1.1.2:25"}),
        (record(recipient=CLOSED, peer="192.168.1.7"), {"received_via": "10.1.1.1:25"}),
        (rcpt(OPEN), {"received_via": "10.1.1.2:25"}),
    ],
)
def test_what_the_record_does_not_tell(untold: dict[str, Any], disagrees: dict[str, str]) -> None:
    """KumoMTA's log has listener and login only if it is configured so: without them, a decision on them is no disagreement."""
    comparison, printed = compared(untold, under=BY_LISTENER_OR_LOGIN)
    assert (printed, comparison.left_out, comparison.compared) == ([None], {"unknown": 1}, 0)
    comparison, (found,) = compared({**untold, "meta": disagrees}, under=BY_LISTENER_OR_LOGIN)
    assert found is not None
    assert comparison.otherwise == 1


def test_what_nothing_untold_would_change() -> None:
    """A decision that no listener and no login explains is a disagreement; our own record has the login, if there was one."""
    _, printed = compared(
        record(recipient=CLOSED, id="1"), ours(sender="a@login.example", recipient=CLOSED, id="2"), under=BY_LISTENER_OR_LOGIN
    )
    assert all(printed)


def test_no_login_without_tls() -> None:
    """KumoMTA permits a login under TLS only: a Reception or Feedback record without a cipher had none."""
    closed = {"sender": "a@login.example", "recipient": CLOSED}
    for made in (record(**closed), record("Feedback", **closed)):
        comparison, printed = compared(made, under=BY_LISTENER_OR_LOGIN)
        assert (comparison.would_reject, comparison.left_out) == (1, {})
        assert all(printed)
        comparison, _ = compared({**made, "tls_cipher": "TLS13_AES_256"}, under=BY_LISTENER_OR_LOGIN)
        assert (comparison.would_reject, comparison.left_out) == (0, {"unknown": 1})


def test_the_quarantine() -> None:
    """What was kept there was accepted: it disagrees only with a configuration that rejects it."""
    kept = {"quarantine": "20260921-141320"}
    comparison, _ = compared(
        ours(recipient=BOUNCE, meta=kept), ours(recipient=OPEN, meta=kept), ours(recipient=CLOSED, meta=kept)
    )
    assert (comparison.would_reject, comparison.would_accept, comparison.same) == (2, 0, 1)


def test_one_recipient_of_several() -> None:
    """That some of the recipients would be rejected is a disagreement, and names the first of them with its reason."""
    comparison, (found,) = compared(ours(recipient=[OPEN, CLOSED, "y@closed.example"]))
    assert found is not None
    assert (found.accepts, found.recipient) == (False, CLOSED)
    assert str(found.because[0]) == "no listener domain matches closed.example"
    assert comparison.would_reject == 1


def test_the_rules_that_decide_now() -> None:
    """Disagreements are put together by rule, without the names that are in its sentence; a flood counts as what it was."""
    comparison, _ = compared(
        rcpt(OPEN),
        ours("Rejection", recipient=OPEN, answer=(550, "relaying not permitted", f"RCPT TO:<{OPEN}>"), meta={"count": 9}),
        record(recipient=CLOSED),
        record(recipient="x@other.example"),
    )
    rules = {rule: (count.accepted, count.rejected) for (rule,), count in comparison.rules.top(9)}
    assert rules == {'domains.toml:2 "open.example".relay_to': (0, 10), "no listener domain matches": (2, 0)}
    assert (comparison.would_accept, comparison.would_reject, comparison.otherwise) == (10, 2, 12)


def test_mail_that_went_out() -> None:
    """Records of what went out are counted, and nothing else."""
    comparison, printed = compared(record("Delivery"), record("Bounce", id="2"))
    assert printed == [None, None]
    assert (comparison.outgoing, comparison.compared, comparison.left_out) == (2, 0, {})
    assert not comparison.is_empty
    assert Comparison().is_empty
