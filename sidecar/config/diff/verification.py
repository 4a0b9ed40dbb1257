"""Changes of [verify]: keys, by their names, and what each recipient domain requires of reports. Never shows a secret."""

from collections.abc import Iterator
from typing import Final

from sidecar.config.diff.values import RuleChange, Side, effect_of
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from sidecar.core.text import quoted

_KEYS: Final = {
    "secret_files": "the key ids of the secrets that verify reports; the first one signs",
    "dkim_keys": "the public DKIM keys that verify reports",
    "authserv_ids": "the hosts whose Authentication-Results count",
    "maximum_age": "seconds for which a proof holds",
    "batv": "whether BATV tokens hold, which have only 24 bits",
}
_UNVERIFIED: Final = "what happens to a report that proves nothing about your mail"
_ADDRESS: Final = "whether each recipient must have a valid address token"
# How far an unverified report gets.
_REACH: Final = {"reject": 0, "quarantine": 1, "accept": 2, "required": 0, "optional": 1}
_NONE: Final = VerifySettings()


def verify_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield what differs in [verify]. Without the section no report is verified, and all are accepted."""
    before, after = (side.evaluator.settings.verify or _NONE for side in (old, new))
    for key, text in _KEYS.items():
        (was, shown_before), (now, shown_after) = _value(before, key), _value(after, key)
        if was != now:
            spots = old.spot_of(shown_before, "verify", key), new.spot_of(shown_after, "verify", key)
            yield RuleChange(kind="setting", action="changed", key=f"verify.{key}", old=spots[0], new=spots[1], text=text)
    yield from _rule_changes("verify", old, before.rule, new, after.rule)
    for name in dict.fromkeys((*before.domains, *after.domains)):
        domain = name.removeprefix("*.")
        rules = (section.domains.get(name) or section.rule_of(domain) for section in (before, after))
        yield from _rule_changes(f"verify.domain.{quoted(name)}", old, next(rules), new, next(rules))


def _value(section: VerifySettings, key: str) -> tuple[object, object]:
    """Return what a key stands for, and how it is shown: keys only by their names, which another key can have too."""
    match key:
        case "secret_files":
            return section.secrets, [secret.id for secret in section.secrets]
        case "dkim_keys":
            return section.dkim, sorted(f"{selector}._domainkey.{domain}" for selector, domain in section.dkim)
        case "authserv_ids":
            return section.authserv_ids, list(section.authserv_ids)
        case _:
            return (getattr(section, key),) * 2


def _rule_changes(path: str, old: Side, was: VerifyRule, new: Side, now: VerifyRule) -> Iterator[RuleChange]:
    addresses = ["required" if rule.requires_token else "optional" for rule in (was, now)]
    for key, text, before, after in (
        ("unverified", _UNVERIFIED, was.unverified, now.unverified),
        ("address", _ADDRESS, *addresses),
    ):
        if before != after:
            yield RuleChange(
                kind="setting",
                action="changed",
                effect=effect_of(_REACH[before], _REACH[after]),
                key=f"{path}.{key}",
                old=old.spot(before, was.places.get(key)),
                new=new.spot(after, now.places.get(key)),
                text=text,
            )
