"""The text of listener domains held against the settings in use: its errors and warnings, and what it would change."""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.diff.rules import Listing, changes
from sidecar.config.diff.values import EFFECTS, Effect, RuleChange, Side, Verdicts
from sidecar.config.diff.verdicts import Replay
from sidecar.config.domains import Nodes, read_domains
from sidecar.config.files import UnreadableError, parsed
from sidecar.config.findings import Findings, position
from sidecar.config.places import Place
from sidecar.config.warnings import note_warnings
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.findings import Finding
from sidecar.core.records import Logged
from sidecar.core.settings.domain_table import DomainTable, table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import Where

# The changes of each effect, and the groups of envelopes, that a person can read.
SHOWN: Final = 50
_NEW: Final = "new"


class TextTrial(Struct, frozen=True, kw_only=True):
    """What a text does. With errors in it there is nothing but `findings`.

    `counts` has the changes by effect, and `changes` the first ones of each. `verdicts` is None without records.
    """

    findings: tuple[Finding, ...]
    counts: dict[Effect, int] = {}
    dangers: int = 0
    changes: tuple[RuleChange, ...] = ()
    verdicts: Verdicts | None = None

    @property
    def has_errors(self) -> bool:
        """True if the text cannot be used."""
        return any(one.level == "error" for one in self.findings)


def is_json_text(text: str) -> bool:
    """Return True for a text that is JSON if it is anything."""
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "//", "/*"))


def try_domains(settings: Settings, text: str, file: str, records: Iterable[Logged | None]) -> TextTrial:
    """Return what a text in place of all listener domains files would change, also for recorded envelopes.

    `file` is the name by which places in the text are known. None in `records` is a line that is no record.
    """
    findings = Findings()
    table = _table(text, file, findings)
    if table is None or findings.errors:
        return TextTrial(findings=_sorted([*findings.errors, *findings.warnings()]))
    changed = replace(settings, domains=table)
    note_warnings(changed, findings)
    # The bounce rules decide on no mail.
    old, new = (_side(replace(one, bounce_rules=()), name) for one, name in ((settings, ""), (changed, _NEW)))
    listing = Listing(SHOWN)
    for change in changes(old, new):
        listing.add(change)
    replay, is_empty = Replay(old, new), True
    for record in records:
        replay.add(record)
        is_empty = False
    verdicts = None if is_empty else replay.verdicts()
    return TextTrial(
        findings=_sorted(findings.warnings()),
        counts=listing.counts,
        dangers=listing.dangers,
        changes=tuple(change for effect in EFFECTS for change in listing.of(effect)),
        verdicts=None if verdicts is None else replace(verdicts, groups=verdicts.groups[:SHOWN]),
    )


def _table(text: str, file: str, findings: Findings) -> DomainTable | None:
    nodes: Nodes = {}
    try:
        document = parsed(text.removeprefix("\ufeff"), file, is_json=is_json_text(text))
    except UnreadableError as error:
        findings.error("syntax_error", Where(file=file, line=error.line or 1, key=""), error.text, error.fix)
        return None
    entries = read_domains(document, findings, nodes)
    return table_of([entry for domains in entries.values() for entry in domains.values()], nodes)


def _side(settings: Settings, folder: str) -> Side:
    """Return a side whose places are those of files in `folder`; the settings file itself is the same."""
    file = str(PurePath(folder) / "sidecar.toml")
    return Side(file=file, folder=PurePath("/"), place=Place(1), evaluator=Evaluator(settings))


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(dict.fromkeys(findings), key=position))
