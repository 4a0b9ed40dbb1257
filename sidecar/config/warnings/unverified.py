"""Rules of [verify] for domains that no listener domain matches: a typing error leaves the other domain without a rule."""

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


def note_verify(verify: VerifySettings | None, by_listener: Mapping[str, ListenerDomains], findings: Findings) -> None:
    """Warn about each domain of [verify] for which no listener has an entry."""
    for name, rule in () if verify is None else verify.domains.items():
        domain = name.removeprefix("*.")
        probe, is_wide = (domain, False) if name == domain else (f"{UNLISTED}.{domain}", True)
        entries = (
            "*" in own or own.find(probe) is not None or (is_wide and own.is_node(domain)) for own in by_listener.values()
        )
        if not any(entries):
            findings.warn(_NO_DOMAIN, rule.places[""], domain=name)
