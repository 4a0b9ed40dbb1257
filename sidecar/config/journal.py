"""The table [journal]: where records are kept, in which form, and what of them.

Owns its keys, and those of the tables below it, one for each type of record. Never opens a journal.
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
"""KumoMTA's name for the types that have no table of their own."""

# A digit would be taken for one of the instant, and a directory's name for one of another journal.
_SUFFIX = re.compile(r"(?:[._-][A-Za-z0-9._-]{0,63})?", re.ASCII)

_REPORTS: Final = ("OOB", "Feedback")
_UNTOLD: Final = {
    "Reception": "A report that names no failed recipient has no other record, and is answered 250 all the same.",
    "Rejection": "Nothing will tell who was refused, and why.",
}


def read_journal(table: Table, folder: Path, directory: Path, findings: Findings) -> JournalSettings:
    """Read the table; paths are relative to `folder`, and without a directory of its own the journal is in `directory`."""
    path = path_in(folder, "a directory")
    taken: dict[str, Any] = {"directory": directory} | table.take(
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
        taken[record_type] = read[name]
        if not read[name].enabled:
            _note_disabled(record_type, tables[name], findings)
    if "compression_level" in taken and taken.get("format") != "zstd":
        findings.note(_uncompressed, table.where("compression_level"))
    table.close()
    return JournalSettings(**taken)


def _read_type(table: Table, path: Reader[Path]) -> RecordSettings:
    taken = table.take({"directory": path, "suffix": _suffix, "enabled": flag})
    table.close()
    return RecordSettings(**taken)


def _note_disabled(record_type: str, table: Table, findings: Findings) -> None:
    """What is turned off is gone for good: an error for reports, which their senders were told are taken."""
    if record_type in _REPORTS:
        text = (
            f"Records of the type {record_type} are what a report leaves, and all of it where it is dropped: it would be lost."
        )
        key = "log_oob" if record_type == "OOB" else "log_arf"
        table.fault(
            "unrecorded_reports", "enabled", text, f'Write true, or {key} = "Ignore" for the domains that should take none.'
        )
    else:
        findings.note(_untold, record_type, table.where("enabled"))


def _untold(record_type: str, where: Where) -> Finding:
    """Tell of records that are not written."""
    text = f"No record of the type {record_type} is written. {_UNTOLD[record_type]}"
    return warning("no_record", where, text, "Write true, unless that is meant.")


def _uncompressed(where: Where) -> Finding:
    return warning("no_effect", where, "Plain segments are not compressed.", 'Write format = "zstd" as well, or take this out.')


def _suffix(value: object) -> str:
    """Read the end of segments' names: nothing, or a text that begins with a point, a dash or an underscore."""
    if not isinstance(value, str) or not _SUFFIX.fullmatch(value):
        raise wrong(f"{shown(value)} is not the end of a file's name.", 'Write one such as ".zst" or "_recv", or "" for none.')
    return value
