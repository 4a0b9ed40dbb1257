"""The change of [verify] after which a report that proves nothing is accepted, proved with the changed settings."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from sidecar.core.disposition import REJECTED
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import Evaluator, Judgement, deciding
from sidecar.core.evaluate.recorded.advice import Advice, Change
from sidecar.core.settings.proof import VerifyRule
from sidecar.core.settings.values import Where

_LINES: Final = {"unverified": 'unverified = "accept"', "address": 'address = "optional"'}
_TEXTS: Final = {
    "unverified": "If reports of this host are true, accept those that prove nothing.",
    "address": "If mail with these envelope senders has no token, do not require one.",
}
_OPENS: Final = "forged reports to these domains are then accepted, too"


def loosened(evaluator: Evaluator, envelope: Envelope, judgement: Judgement) -> Advice | None:
    """Return the change; None if another rule rejects the envelope, or rejects it then."""
    verify, rule = evaluator.settings.verify, deciding(judgement)[0]
    key = (rule.key or "").rpartition(".")[2]
    if verify is None or key not in _LINES or rule.file is None or rule.line is None:
        return None
    place = Where(file=rule.file, line=rule.line, key=rule.key or "")
    domains = {name: _loosened(own, key, place) for name, own in verify.domains.items()}
    changed = replace(evaluator.settings, verify=replace(verify, rule=_loosened(verify.rule, key, place), domains=domains))
    if Evaluator(changed, policy=evaluator.policy).judge(envelope).outcome in REJECTED:
        return None
    change = Change(text=_TEXTS[key], file=rule.file, line=rule.line, key=rule.key, lines=(_LINES[key],), opens=_OPENS)
    return Advice(aim="accept", apply="one", changes=(change,), then="Then it is accepted.")


def _loosened(rule: VerifyRule, key: str, place: Where) -> VerifyRule:
    places: Mapping[str, Where] = rule.places
    if places.get(key) != place:
        return rule
    return replace(rule, unverified="accept") if key == "unverified" else replace(rule, requires_token=False)
