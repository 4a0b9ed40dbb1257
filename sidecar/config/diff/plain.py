"""Changes of settings with a single value.

Owns the meaning of each. All fields of Settings are compared, so a new setting is never left out.
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from sidecar.config.diff.values import Effect, RuleChange, Side, Spot
from sidecar.core.settings.values import RECORD_TYPES

# Other modules compare these.
ELSEWHERE: Final = frozenset({"relay_hosts", "listener_relay_hosts", "domains", "bounce_rules", "verify", "suppression.places"})
# Values of suppression.check that reject no recipient.
_ALIKE: Final = {"off", "log"}


class Meaning(NamedTuple):
    """What a setting does: a noun phrase, whether a greater value accepts more or less, and whether it needs a restart."""

    text: str
    opens: Literal["more", "less"] | None = None
    at_start: bool = False


MEANINGS: Final = {
    "reject_at_connect": Meaning("whether external hosts are rejected at connect if nothing is permitted to them"),
    "decide": Meaning("when a message has its verdict: as early as possible, or at its end"),
    "report_size_limit": Meaning("bytes of the largest report that is accepted", opens="more"),
    "recipient_limit": Meaning("recipients of one message", opens="more"),
    # "accept" sorts before "reject".
    "text_bounces": Meaning("what happens to a bounce without a status part", opens="less"),
    # "quarantine" sorts before "reject", and gives 250.
    "unparsable_reports": Meaning("what happens to an unparsable report", opens="less"),
    "headers": Meaning("the message headers in records"),
    "original_headers": Meaning("the headers of returned messages in records"),
    "node_id": Meaning("the installation's id in records"),
    "user": Meaning("the user that the program runs as", at_start=True),
    "group": Meaning("the group that the program runs as", at_start=True),
    "compat": Meaning("whether reports are read and records written exactly as by KumoMTA"),
    "reload_on_change": Meaning("whether a changed file is loaded automatically"),
    "state_directory": Meaning("the directory of the state", at_start=True),
    "limits.header_size": Meaning("bytes of the largest header section of a report", opens="more"),
    "limits.reports_per_second": Meaning("reports per second from one external network", opens="more"),
    "limits.signatures_per_second": Meaning("DKIM signatures per second that one external network has checked", opens="more"),
    "limits.report_memory": Meaning("bytes of all reports in memory", opens="more"),
    "limits.sessions": Meaning("SMTP connections at once in each worker", opens="more"),
    "limits.rejection_records_per_second": Meaning("rejections of one network per second that have their own record"),
    "limits.record_bytes_per_byte": Meaning("bytes of records for each byte from one external network; 0 is no limit"),
    "limits.record_bytes_burst": Meaning("bytes of records of one external network beyond that", opens="more"),
    "limits.quarantine_size": Meaning("bytes of all messages in the quarantine", opens="more"),
    "limits.quarantine_age": Meaning("seconds for which the quarantine keeps a message"),
    "limits.index_age": Meaning("seconds for which the console finds a record"),
    "milter.socket": Meaning("the socket for the MTA", at_start=True),
    "milter.socket_mode": Meaning("the mode of the UNIX socket", at_start=True),
    "milter.socket_owner": Meaning("the owner of the UNIX socket", at_start=True),
    "milter.socket_group": Meaning("the group of the UNIX socket", at_start=True),
    "milter.allow_remote": Meaning("whether other machines can reach the socket", at_start=True),
    "milter.engine": Meaning("the implementation of the milter protocol"),
    "milter.cpu_affinity": Meaning("whether each worker stays on one CPU"),
    "milter.workers": Meaning("the number of processes; limits are counted in each"),
    "admin.socket": Meaning("the socket of the HTTP service", at_start=True),
    "admin.socket_mode": Meaning("the mode of the UNIX socket of the HTTP service", at_start=True),
    "admin.socket_owner": Meaning("the owner of the UNIX socket of the HTTP service", at_start=True),
    "admin.socket_group": Meaning("the group of the UNIX socket of the HTTP service", at_start=True),
    "admin.tokens": Meaning("the tokens of the HTTP service"),
    "admin.console": Meaning("whether web pages for people are served"),
    "sign.header": Meaning("whether outbound mail gets a trace header"),
    "sign.address": Meaning("whether the envelope sender of outbound mail gets a token"),
    "sign.cfbl_address": Meaning("the address for complaints about outbound mail"),
    "sign.domains": Meaning("the sender domains whose mail is signed"),
    "journal.directory": Meaning("the directory of records"),
    "journal.segment_size": Meaning("bytes of a segment before it is finished"),
    "journal.segment_age": Meaning("seconds after which a segment is finished"),
    "journal.format": Meaning("the format of segments"),
    "journal.compression_level": Meaning("the compression level of zstd"),
    "journal.keep_age": Meaning("seconds after which records are deleted"),
    "journal.keep_size": Meaning("bytes that all records may have"),
    "journal.minimum_free": Meaning("free bytes below which the program is degraded"),
    "journal.meta": Meaning("the entries of meta in records"),
    **{
        f"journal.{record_type}.{key}": Meaning(text.format(record_type))
        for record_type in RECORD_TYPES
        for key, text in {
            "directory": "the directory of {} records",
            "suffix": "the suffix of segments with {} records",
            "enabled": "whether {} records are written",
        }.items()
    },
    "suppression.database": Meaning("the database of the suppression list"),
    "suppression.rule": Meaning("the rules of the suppression list"),
    "suppression.trust": Meaning("the least proof of a report that counts for the suppression list"),
    "suppression.store": Meaning("whether the suppression list has addresses or only their hashes"),
    **{
        f"fleet.{key}": Meaning(text)
        for key, text in {
            "servers": "the NATS servers of the fleet",
            "name": "the beginning of the fleet's streams and subjects",
            "node": "the name of this node in the fleet",
            "credentials": "the credentials of this node in the fleet",
            "policy_keys": "the keys whose signatures the fleet's policy needs",
            "revision": "the revision of the fleet's policy",
            "tls_ca": "the certificates that the fleet's servers are checked with",
        }.items()
    },
    "webhook": Meaning("the HTTP endpoints that get records"),
    # "log" and "off" sort before "reject".
    "suppression.check": Meaning("what a relay host gets for a recipient on the suppression list", opens="less"),
    "suppression.domain": Meaning("what a relay host gets for a recipient on the suppression list, by sender domain"),
    "suppression.on_unreadable": Meaning("what happens to recipients if the suppression list cannot be read", opens="less"),
    "log.level": Meaning("the level of the program's log"),
    "log.format": Meaning("the format of the program's log"),
}


def plain_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the settings that differ."""
    before, after = flat(old.evaluator.settings), flat(new.evaluator.settings)
    for key in before | after:
        was: Any = before.get(key)
        now: Any = after.get(key)
        if was == now or _seen_from(was, old) == _seen_from(now, new):
            continue
        meaning = MEANINGS[key]
        effect: Effect = "neither"
        if key == "suppression.domain":
            effect = _effect_by_domain(old, new)
        elif meaning.opens is not None and {was, now} != _ALIKE:
            effect = "opens" if (was < now) == (meaning.opens == "more") else "closes"
        yield RuleChange(
            kind="setting",
            action="changed",
            effect=effect,
            key=key,
            old=_spot(key, was, old),
            new=_spot(key, now, new),
            text=meaning.text + ("; needs a restart" if meaning.at_start else ""),
        )


def _effect_by_domain(old: Side, new: Side) -> Effect:
    """Return "closes" if a sender domain's mail is rejected only now, or else "opens" if it was rejected only before."""
    before, after = old.evaluator.settings.suppression, new.evaluator.settings.suppression
    if before is None or after is None:
        return "neither"
    names = [name.replace("*", "x") for name in {**before.domain, **after.domain}]
    rejects = [[listed.check_of(name)[0] == "reject" for name in names] for listed in (before, after)]
    changes = {now - was for was, now in zip(*rejects, strict=True)}
    return "closes" if 1 in changes else "opens" if -1 in changes else "neither"


def flat(values: Struct, path: str = "") -> dict[str, Any]:
    """Return every setting by its key path, also those inside tables."""
    found: dict[str, Any] = {}
    for name, value in asdict(values).items():
        if isinstance(value, Struct) and path + name not in ELSEWHERE:
            found |= flat(value, f"{path}{name}.")
        elif path + name not in ELSEWHERE:
            found[path + name] = value
    return found


def _seen_from(value: object, side: Side) -> object:
    """Return a path relative to the folder of the settings file, because NEW will replace OLD there."""
    if isinstance(value, PurePath) and value.is_relative_to(side.folder):
        return value.relative_to(side.folder)
    if isinstance(value, str) and value.startswith(f"unix:{side.folder}/"):
        return value.removeprefix(f"unix:{side.folder}/")
    return value


def _spot(key: str, value: object, side: Side) -> Spot:
    """Return a value and the line that sets it. A default has no line."""
    shown = msgspec.to_builtins(value, enc_hook=str)
    if key.endswith("socket_mode") and isinstance(value, int):
        shown = f"{value:04o}"
    elif key == "admin.tokens" and isinstance(value, tuple):
        # The beginning of the hash shows that a file has another token.
        shown = {one.role: f"{one.file} ({one.digest[:8]})" for one in value}
    return side.spot_of(shown, *key.split("."))
