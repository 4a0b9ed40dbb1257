"""Rules of [verify] that do less than they seem: no listener domain matches the domain, or its tokens can be guessed."""

from collections.abc import Mapping
from typing import Final

from sidecar.config.findings import Findings, Kind
from sidecar.core.names import UNLISTED
from sidecar.core.settings.domain_table import ListenerDomains
from sidecar.core.settings.proof import VerifySettings

_NO_DOMAIN: Final = Kind(
    "never_matches",
    "No listener domain matches {domain}, so this rule has no effect for external hosts.",
    "Write the domain as in the listener domains file, or remove the section.",
)
_SHORT_TOKENS: Final = Kind(
    "weak_proof",
    "{domain} accepts BATV tokens, too. They have 24 bits: a forger finds one after 2^23 tries on average. It holds for days.",
    "Write batv = false below [verify]. If another program makes BATV tokens with these secrets, limit the rate of rejected "
    "recipients in the MTA.",
)


def note_verify(verify: VerifySettings | None, by_listener: Mapping[str, ListenerDomains], findings: Findings) -> None:
    """Warn about each domain of [verify] for which no listener has an entry, or that relies on BATV tokens."""
    if verify is None:
        return
    for name, rule in verify.domains.items():
        if rule.requires_token and verify.batv:
            findings.warn(_SHORT_TOKENS, rule.places["address"], domain=name)
        domain = name.removeprefix("*.")
        probe, is_wide = (domain, False) if name == domain else (f"{UNLISTED}.{domain}", True)
        entries = (
            "*" in own or own.find(probe) is not None or (is_wide and own.is_node(domain)) for own in by_listener.values()
        )
        if not any(entries):
            findings.warn(_NO_DOMAIN, rule.places[""], domain=name)
