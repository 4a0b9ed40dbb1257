"""An MTA's own relay control beside the sidecar's: what it lets through that the sidecar would not, and the other way round.

Owns the comparison, for both MTAs. Never reads an MTA's settings.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from sidecar.commands.doctor.values import DoctorCode, some
from sidecar.core.findings import Finding
from sidecar.core.open_domains import OpenDomains, Pattern, above, is_literal, lineage

_REJECTED: DoctorCode = "rejected_before_sidecar"
_BEYOND: DoctorCode = "relays_beyond_policy"


class Relaying(Struct, frozen=True, kw_only=True):
    """What an MTA relays for strangers: `relays` to other hosts, `takes` at all, which adds the domains that end there.

    `names` are those that its settings mention; `key` and `line` are the setting to blame, `fix` is what sets it right.
    """

    mta: str
    key: str
    line: int | None
    relays: Callable[[str], bool]
    takes: Callable[[str], bool]
    names: Iterable[str]
    fix: str


def compare(mta: Relaying, domains: OpenDomains) -> list[Finding]:
    """Give a finding for what the MTA rejects although the sidecar would take it, and one for what it relays beyond that."""
    # Address literals are left out as they are in the export.
    names = {name for listed in (*domains.names, *mta.names) for name in lineage(listed) if not is_literal(name)}
    rejected = _patterns(names, lambda name: name in domains and not mta.takes(name))
    beyond = _patterns(names, lambda name: mta.relays(name) and name not in domains)
    found = []
    if rejected:
        text = (
            f"{mta.mta} rejects mail for {some(rejected)} before the sidecar, which accepts it from external hosts, is asked."
        )
        found.append(Finding(level="error", code=_REJECTED, key=mta.key, line=mta.line, text=text, fix=mta.fix))
    if beyond:
        text = f"{mta.mta} itself relays to {some(beyond)} for anyone: only the sidecar rejects that now."
        found.append(Finding(level="warning", code=_BEYOND, key=mta.key, line=mta.line, text=text, fix=mta.fix))
    return found


def _patterns(names: Iterable[str], holds: Callable[[str], bool]) -> list[str]:
    """Write the set `holds` in few patterns: a name is left out where all that is below its parent is in the set."""
    rest = Pattern(name="", below=True)
    found = [rest] if holds(rest.probe) else []
    for name in sorted(names):
        covered = holds(Pattern(name=above(name), below=True).probe)
        patterns = (Pattern(name=name, below=False), Pattern(name=name, below=True))
        found += [pattern for pattern in patterns if not covered and holds(pattern.probe)]
    return [str(pattern) for pattern in found]
