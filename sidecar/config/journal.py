"""The section [journal]: where records are written, in which format, and which of them.

Owns its keys and those of its tables, one for each type of record. Never opens a journal.
"""

import re
from pathlib import Path
from typing import Any, Final

from sidecar.config.readers import Reader, choice, flag, list_of, path_in, text, whole_number, wrong
from sidecar.config.tables import Table
from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings, RecordSettings, Where
from sidecar.core.text import shown

_ANY: Final = "Any"
"""KumoMTA's name for the types without a table."""

# A suffix that begins with a digit would look like a part of the time, and a `/` like another directory.
_SUFFIX = re.compile(r"(?:[._-][A-Za-z0-9._-]{0,63})?", re.ASCII)

_REPORTS: Final = ("OOB", "Feedback")
_CONSEQUENCE: Final = {
    "Reception": "A report without a failed recipient has no other record, and still gets 250.",
    "Rejection": "Nothing shows which hosts were rejected, and why.",
}


def read_journal(table: Table, folder: Path, directory: Path, findings: Findings) -> JournalSettings:
    """Read the section. Paths are relative to `folder`; the default of the journal's directory is `directory`."""
    path = path_in(folder, "a directory")
    values: dict[str, Any] = {"directory": directory} | table.take(
        {
            "directory": path,
            "segment_size": whole_number(4096, 1 << 34, "bytes"),
            "segment_age": whole_number(1, 31 * 24 * 3600, "seconds"),
            "format": choice("plain", "zstd"),
            "compression_level": whole_number(0, 21, "levels"),
            "meta": list_of(text("the name of an entry"), '["why", "queue_id"]'),
            "minimum_free": whole_number(0, 1 << 44, "bytes"),
        }
    )
    tables = {name: table.table(name) for name in (*RECORD_TYPES, _ANY)}
    read = {name: _read_type(own, path) for name, own in tables.items()}
    for record_type in RECORD_TYPES:
        name = record_type if record_type in table.values or _ANY not in table.values else _ANY
        values[record_type] = read[name]
        if not read[name].enabled:
            _note_disabled(record_type, tables[name], findings)
    if "compression_level" in values and values.get("format") != "zstd":
        findings.note(_uncompressed, table.where("compression_level"))
    table.close()
    return JournalSettings(**values)


def _read_type(table: Table, path: Reader[Path]) -> RecordSettings:
    return RecordSettings(**table.only({"directory": path, "suffix": _suffix, "enabled": flag}))


def _note_disabled(record_type: str, table: Table, findings: Findings) -> None:
    """An error for reports, because their senders got 250; otherwise a warning."""
    if record_type in _REPORTS:
        text = f"A record of the type {record_type} is all that is left of a dropped report: the report would be lost."
        key = "log_oob" if record_type == "OOB" else "log_arf"
        table.fault(
            "unrecorded_reports", "enabled", text, f'Write true, or {key} = "Ignore" for the domains that should accept none.'
        )
    else:
        findings.note(_no_record, record_type, table.where("enabled"))


def _no_record(record_type: str, where: Where) -> Finding:
    text = f"Records of the type {record_type} are not written. {_CONSEQUENCE[record_type]}"
    return warning("no_record", where, text, "Write true, unless you want that.")


def _uncompressed(where: Where) -> Finding:
    return warning("no_effect", where, "Plain segments are not compressed.", 'Write format = "zstd" too, or remove this.')


def _suffix(value: object) -> str:
    """Read the suffix of segment names: empty, or a text that begins with a dot, a dash or an underscore."""
    if not isinstance(value, str) or not _SUFFIX.fullmatch(value):
        raise wrong(f"{shown(value)} is not a suffix of a file name.", 'Write one such as ".zst" or "_recv", or "" for none.')
    return value
