"""What changes in the settings that are single values: neither lists of hosts nor domains nor rules.

Owns what a change of each means. Walks the fields of Settings, whatever they are: a new setting cannot be forgotten here.
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from sidecar.commands.diff.values import Effect, RuleChange, Side, Spot
from sidecar.core.settings.values import RECORD_TYPES

# Where other modules of this package look.
ELSEWHERE: Final = frozenset({"relay_hosts", "listener_relay_hosts", "domains", "bounce_rules"})

Direction = Literal["more", "less"] | None

_AT_START: Final = "; it takes effect at the next start, not at a reload"


class Meaning(Struct, frozen=True, kw_only=True):
    """What a setting does: `text` is a noun phrase, and with `opens` "more" a greater value lets more through.

    `at_start`: a reload does not change it.
    """

    text: str
    opens: Direction = None
    at_start: bool = False


def _limit(text: str) -> Meaning:
    return Meaning(text=text, opens="more")


def _at_start(text: str) -> Meaning:
    return Meaning(text=text, at_start=True)


MEANINGS: Final = {
    "refuse_at_connect": Meaning(text="whether strangers to whom nothing is permitted are rejected at connect already"),
    "report_size_limit": _limit("bytes of the largest report that is taken"),
    "recipient_limit": _limit("recipients of one message"),
    # "quarantine" comes before "refuse", and answers 250.
    "unreadable_reports": Meaning(text="what becomes of what claims to be a report and cannot be read", opens="less"),
    "headers": Meaning(text="the message headers that go into records"),
    "node_id": Meaning(text="the installation's id in records"),
    "user": _at_start("whom the program becomes"),
    "group": _at_start("the group that the program takes on"),
    "compat": Meaning(text="whether reports are read, and records written, to KumoMTA's letter"),
    "reload_on_change": Meaning(text="whether a changed file is loaded by itself"),
    "state_directory": _at_start("where the state is kept"),
    "limits.header_size": _limit("bytes of the largest header section of a report"),
    "limits.reports_per_second": _limit("reports a second that one external network may send"),
    "limits.report_memory": _limit("bytes of all reports in hand"),
    "limits.sessions": _limit("SMTP connections at once in each worker"),
    "limits.rejection_records_per_second": Meaning(text="rejections of one network that get a record of their own each second"),
    "limits.record_bytes_per_byte": Meaning(text="bytes of records for each byte from one external network; 0 is no limit"),
    "limits.record_bytes_burst": _limit("bytes of records that one external network may cause beyond that"),
    "limits.quarantine_size": _limit("bytes of all that is in the quarantine"),
    "limits.quarantine_age": Meaning(text="seconds for which the quarantine keeps a message"),
    "milter.socket": _at_start("where the MTA reaches the sidecar"),
    "milter.socket_mode": _at_start("who may reach the UNIX socket"),
    "milter.socket_owner": _at_start("the owner of the UNIX socket"),
    "milter.socket_group": _at_start("the group of the UNIX socket"),
    "milter.allow_remote": _at_start("whether other machines may reach the socket"),
    "milter.engine": Meaning(text="what speaks the milter protocol"),
    "milter.cpu_affinity": Meaning(text="whether each worker stays on one CPU"),
    "milter.workers": Meaning(text="the number of processes; limits are counted in each"),
    "admin.socket": _at_start("where policy and metrics are served over HTTP"),
    "admin.socket_mode": _at_start("who may reach the UNIX socket of the HTTP server"),
    "admin.socket_owner": _at_start("the owner of the UNIX socket of the HTTP server"),
    "admin.socket_group": _at_start("the group of the UNIX socket of the HTTP server"),
    "journal.directory": Meaning(text="where records are kept"),
    "journal.segment_size": Meaning(text="bytes at which a segment is finished"),
    "journal.segment_age": Meaning(text="seconds after which a segment is finished"),
    "journal.format": Meaning(text="how segments are written"),
    "journal.compression_level": Meaning(text="how hard zstd tries"),
    "journal.minimum_free": Meaning(text="free bytes below which the program is degraded"),
    "journal.meta": Meaning(text="the entries of meta that records keep"),
    **{
        f"journal.{record_type}.{key}": Meaning(text=f"{text} {record_type} records")
        for record_type in RECORD_TYPES
        for key, text in {
            "directory": "where there are",
            "suffix": "how segments are named that have",
            "enabled": "whether there are",
        }.items()
    },
    "log.level": Meaning(text="what is worth a line in the program's own log"),
    "log.format": Meaning(text="the form of the program's own log"),
}

_UNKNOWN: Final = Meaning(text="")


def plain_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Give the settings that differ."""
    before, after = flat(old.settings), flat(new.settings)
    for key in dict.fromkeys((*before, *after)):
        if not _same(before.get(key), after.get(key), old, new):
            meaning = MEANINGS.get(key, _UNKNOWN)
            yield RuleChange(
                kind="setting",
                action="changed",
                effect=_effect(meaning.opens, before.get(key), after.get(key)),
                key=key,
                old=_spot(key, before.get(key), old),
                new=_spot(key, after.get(key), new),
                text=meaning.text + (_AT_START if meaning.at_start else ""),
            )


def flat(values: Struct, path: str = "") -> dict[str, Any]:
    """Give every setting by its key path, those inside tables as well."""
    found: dict[str, Any] = {}
    for name in values.__struct_fields__:
        value = getattr(values, name)
        if not path and name in ELSEWHERE:
            continue
        if isinstance(value, Struct):
            found |= flat(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def _same(before: object, after: object, old: Side, new: Side) -> bool:
    return before == after or _seen_from(before, old) == _seen_from(after, new)


def _seen_from(value: object, side: Side) -> object:
    """Give a path below the settings file's own folder as seen from there: NEW will stand where OLD stands."""
    if isinstance(value, PurePath) and value.is_relative_to(side.folder):
        return value.relative_to(side.folder)
    if isinstance(value, str) and value.startswith(f"unix:{side.folder}/"):
        return value.removeprefix(f"unix:{side.folder}/")
    return value


def _effect(opens: Direction, before: Any, after: Any) -> Effect:  # noqa: ANN401 - two values of one setting, whatever its type
    if opens is None:
        return "neither"
    return "opens" if (before < after) == (opens == "more") else "closes"


def _spot(key: str, value: object, side: Side) -> Spot:
    shown = (
        f"{value:04o}" if key.endswith("socket_mode") and isinstance(value, int) else msgspec.to_builtins(value, enc_hook=str)
    )
    line = _line(key, side)
    return Spot(value=shown) if line is None else Spot(value=shown, file=side.path_of(side.file), line=line)


def _line(key: str, side: Side) -> int | None:
    """Give the line that sets `key`; None where its default serves."""
    place = side.place
    for part in key.split("."):
        if part not in place.inner:
            return None
        place = place.inner[part]
    return place.line
