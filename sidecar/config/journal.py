"""The section [journal]: where records are written, in which format, and which of them.

Owns its keys and those of its tables, one for each type of record. Never opens a journal.
"""

import re
from pathlib import Path
from typing import Any, Final

from sidecar.config.findings import Kind
from sidecar.config.readers import choice, flag, list_of, path_in, text, whole_number, wrong
from sidecar.config.tables import Table
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings, RecordSettings
from sidecar.core.text import in_units, shown

_ANY: Final = "Any"
"""KumoMTA's name for the types without a table."""

# A suffix that begins with a digit would look like a part of the time, and a `/` like another directory.
_SUFFIX = re.compile(r"(?:[._-][A-Za-z0-9._-]{0,63})?", re.ASCII)

_UNCOMPRESSED: Final = Kind("no_effect", "Plain segments are not compressed.", 'Write format = "zstd" too, or remove this.')
_SMALL: Final = Kind(
    "short_retention",
    "keep_size is less than four segments of {segment_size}: a segment is deleted soon after it is finished.",
    "Write a larger keep_size, or a smaller segment_size.",
)
_NO_RECORD: Final = Kind(
    "no_record", "Records of the type {type} are not written. {consequence}", "Write true, unless you want that."
)
_CONSEQUENCE: Final = {
    "Reception": "A report without a failed recipient has no other record, and still gets 250.",
    "Rejection": "Nothing shows which hosts were rejected, and why.",
}
# The keys of domains that make these records of a report, which is dropped.
_REPORTS: Final = {"OOB": "log_oob", "Feedback": "log_arf"}


def read_journal(table: Table, folder: Path, directory: Path) -> JournalSettings:
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
            "keep_age": whole_number(0, 100 * 365 * 24 * 3600, "seconds"),
            "keep_size": whole_number(0, 1 << 50, "bytes"),
            "minimum_free": whole_number(0, 1 << 44, "bytes"),
        }
    )
    tables = {name: table.table(name) for name in (*RECORD_TYPES, _ANY)}
    readers = {"directory": path, "suffix": _suffix, "enabled": flag}
    read = {name: RecordSettings(**own.only(readers)) for name, own in tables.items()}
    for record_type in RECORD_TYPES:
        name = record_type if record_type in table.values or _ANY not in table.values else _ANY
        values[record_type] = read[name]
        if not read[name].enabled:
            _note_disabled(record_type, tables[name])
    if "compression_level" in values and values.get("format") != "zstd":
        table.findings.warn(_UNCOMPRESSED, table.where("compression_level"))
    table.close()
    settings = JournalSettings(**values)
    if 0 < settings.keep_size < 4 * settings.segment_size:
        table.findings.warn(_SMALL, table.where("keep_size"), segment_size=in_units(settings.segment_size))
    return settings


def _note_disabled(record_type: str, table: Table) -> None:
    """An error for reports, because their senders got 250; otherwise a warning."""
    if key := _REPORTS.get(record_type):
        text = f"A record of the type {record_type} is all that is left of a dropped report: the report would be lost."
        fix = f'Write true, or {key} = "Ignore" for the domains that should accept none.'
        table.fault("unrecorded_reports", "enabled", text, fix)
    else:
        table.findings.warn(_NO_RECORD, table.where("enabled"), type=record_type, consequence=_CONSEQUENCE[record_type])


def _suffix(value: object) -> str:
    """Read the suffix of segment names: empty, or a text that begins with a dot, a dash or an underscore."""
    if not isinstance(value, str) or not _SUFFIX.fullmatch(value):
        raise wrong(f"{shown(value)} is not a suffix of a file name.", 'Write one such as ".zst" or "_recv", or "" for none.')
    return value
