"""Changes of settings with a single value.

Owns the meaning of each. All fields of Settings are compared, so a new setting is never left out.
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from sidecar.commands.diff.values import Effect, RuleChange, Side, Spot
from sidecar.core.settings.values import RECORD_TYPES

# Other modules compare these.
ELSEWHERE: Final = frozenset({"relay_hosts", "listener_relay_hosts", "domains", "bounce_rules"})

Direction = Literal["more", "less"] | None

_AT_START: Final = "; needs a restart"


class Meaning(Struct, frozen=True, kw_only=True):
    """What a setting does: `text` is a noun phrase. With `opens` "more", a greater value accepts more.

    `at_start`: it needs a restart.
    """

    text: str
    opens: Direction = None
    at_start: bool = False


def _limit(text: str) -> Meaning:
    return Meaning(text=text, opens="more")


def _at_start(text: str) -> Meaning:
    return Meaning(text=text, at_start=True)


MEANINGS: Final = {
    "refuse_at_connect": Meaning(text="whether external hosts are rejected at connect if nothing is permitted to them"),
    "report_size_limit": _limit("bytes of the largest report that is accepted"),
    "recipient_limit": _limit("recipients of one message"),
    # "quarantine" sorts before "refuse", and gives 250.
    "unreadable_reports": Meaning(text="what happens to an unparsable report", opens="less"),
    "headers": Meaning(text="the message headers in records"),
    "node_id": Meaning(text="the installation's id in records"),
    "user": _at_start("the user that the program runs as"),
    "group": _at_start("the group that the program runs as"),
    "compat": Meaning(text="whether reports are read and records written exactly as by KumoMTA"),
    "reload_on_change": Meaning(text="whether a changed file is loaded automatically"),
    "state_directory": _at_start("the directory of the state"),
    "limits.header_size": _limit("bytes of the largest header section of a report"),
    "limits.reports_per_second": _limit("reports per second from one external network"),
    "limits.report_memory": _limit("bytes of all reports in memory"),
    "limits.sessions": _limit("SMTP connections at once in each worker"),
    "limits.rejection_records_per_second": Meaning(text="rejections of one network per second that have their own record"),
    "limits.record_bytes_per_byte": Meaning(text="bytes of records for each byte from one external network; 0 is no limit"),
    "limits.record_bytes_burst": _limit("bytes of records of one external network beyond that"),
    "limits.quarantine_size": _limit("bytes of all messages in the quarantine"),
    "limits.quarantine_age": Meaning(text="seconds for which the quarantine keeps a message"),
    "milter.socket": _at_start("the socket for the MTA"),
    "milter.socket_mode": _at_start("the mode of the UNIX socket"),
    "milter.socket_owner": _at_start("the owner of the UNIX socket"),
    "milter.socket_group": _at_start("the group of the UNIX socket"),
    "milter.allow_remote": _at_start("whether other machines can reach the socket"),
    "milter.engine": Meaning(text="the implementation of the milter protocol"),
    "milter.cpu_affinity": Meaning(text="whether each worker stays on one CPU"),
    "milter.workers": Meaning(text="the number of processes; limits are counted in each"),
    "admin.socket": _at_start("the socket of the HTTP service"),
    "admin.socket_mode": _at_start("the mode of the UNIX socket of the HTTP service"),
    "admin.socket_owner": _at_start("the owner of the UNIX socket of the HTTP service"),
    "admin.socket_group": _at_start("the group of the UNIX socket of the HTTP service"),
    "journal.directory": Meaning(text="the directory of records"),
    "journal.segment_size": Meaning(text="bytes of a segment before it is finished"),
    "journal.segment_age": Meaning(text="seconds after which a segment is finished"),
    "journal.format": Meaning(text="the format of segments"),
    "journal.compression_level": Meaning(text="the compression level of zstd"),
    "journal.minimum_free": Meaning(text="free bytes below which the program is degraded"),
    "journal.meta": Meaning(text="the entries of meta in records"),
    **{
        f"journal.{record_type}.{key}": Meaning(text=text.format(record_type))
        for record_type in RECORD_TYPES
        for key, text in {
            "directory": "the directory of {} records",
            "suffix": "the suffix of segments with {} records",
            "enabled": "whether {} records are written",
        }.items()
    },
    "log.level": Meaning(text="the level of the program's log"),
    "log.format": Meaning(text="the format of the program's log"),
}

_UNKNOWN: Final = Meaning(text="")


def plain_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the settings that differ."""
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
    """Return every setting by its key path, also those inside tables."""
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
    """Return a path relative to the folder of the settings file, because NEW will replace OLD there."""
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
    """Return the line that sets `key`, or None for the default."""
    place = side.place
    for part in key.split("."):
        if part not in place.inner:
            return None
        place = place.inner[part]
    return place.line
