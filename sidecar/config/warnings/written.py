"""What only the reading sees, since finished settings keep one value for each key: `true`, ttl, what a later table hides.

Owns the sentences. Never reads a file.
"""

from sidecar.config.warnings.findings import Findings
from sidecar.config.warnings.openings import is_wide
from sidecar.core.findings import Finding, warning
from sidecar.core.settings.values import DomainEntry, Where


def note_true(entry: DomainEntry, findings: Findings) -> None:
    """Note the `true` of a report that holds when all files are merged.

    Where mail for the domain is relayed the MTA has a way for it, and a wide name has a graver warning of its own.
    """
    if entry.trues and not (entry.relay_to or is_wide(entry.domain)):
        findings.note(_true_relays, entry)


def _true_relays(entry: DomainEntry) -> Finding:
    """`true` is LogThenRelay (KumoMTA: LogReportDisposition), which few who write it know."""
    keys = entry.trues
    means = " and ".join(f"{key} = true" for key in keys) + (" means" if len(keys) == 1 else " mean")
    return warning(
        "report_loop",
        entry.where(keys[0]),
        f'{means} "LogThenRelay": the report goes on to the domain\'s MX, and where that is this server, it comes back.',
        'Write "LogThenDrop", or "LogThenRelay" in words if the MTA has another way for this domain.',
    )


def unused_ttl(where: Where) -> Finding:
    """Tell of KumoMTA's deprecated ttl."""
    return warning("deprecated", where, "ttl has no effect: domains are read anew with the settings.", "Take it out.")


def replaced(first: DomainEntry, second: DomainEntry) -> Finding:
    """Tell of a table below `listener."*"` that KumoMTA puts the one outside of `listener` over."""
    here = second.where("")
    return warning(
        "overridden", first.where(""), f"The table {here.key} on line {here.line} replaces this one.", "Keep one of the two."
    )


def overridden(earlier: DomainEntry, later: DomainEntry, key: str) -> Finding:
    """Tell of a key that a later file sets to another value."""
    where = later.where(key)
    return warning(
        "overridden",
        earlier.where(key),
        f"This has no effect, because {where.key} ({where}) comes later and sets it otherwise.",
        "Keep one of the two.",
    )


def repeated_file(where: Where, name: str, first: str) -> Finding:
    """Tell of a file that is read twice; both are shown as the operator named them."""
    other = "" if name == first else f", as {name}"
    return warning("repeated_file", where, f"This names the file {first} again{other}.", "Name it once.")
