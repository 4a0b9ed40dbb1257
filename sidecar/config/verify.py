"""The section [verify]: the keys that reports are verified with, and what each recipient domain requires.

Owns its keys, and the reading of DKIM key files.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from sidecar.config.files import stamp_of
from sidecar.config.findings import Kind
from sidecar.config.readers import choice, flag, list_of, one_or_more, text, whole_number
from sidecar.config.secrets import read_secret_file
from sidecar.config.tables import Table, domain_tables
from sidecar.core.proof.secret import SECRETS_LIMIT
from sidecar.core.settings.keys import DAY, PublicKey, Secret
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from sidecar.core.settings.values import Source, Where
from sidecar.core.text import quoted, shown

READERS: Final = {
    "secret_files": one_or_more(text("a secret file"), '["secret"]'),
    "dkim_keys": text("a folder"),
    "maximum_age": whole_number(3600, 400 * DAY, "seconds"),
    "batv": flag,
    "authserv_ids": list_of(text("an authserv-id"), '["mx.example.com"]'),
    "unverified": choice("accept", "quarantine", "reject"),
}
"""The keys of [verify]."""
DOMAIN_READERS: Final = {"unverified": READERS["unverified"], "address": choice("optional", "required")}
"""The keys of [verify.domain."NAME"]."""

_NO_KEYS: Final = Kind(
    "no_effect",
    "[verify] has neither secret_files nor dkim_keys, so no report is verified.",
    "Write one of them, or remove the section.",
)


def read_verify(table: Table, folder: Path, sources: list[Source]) -> VerifySettings:
    """Read the section. Paths are relative to `folder`; the files become `sources`."""
    values = table.take(READERS)
    own = VerifyRule(unverified=values.pop("unverified", "accept"), places=_places(table, "unverified"))
    domains = dict(_domains(table.table("domain", quoted), own))
    table.close()
    files: Sequence[str] = values.pop("secret_files", ())
    named: str | None = values.pop("dkim_keys", None)
    settings = VerifySettings(
        secrets=tuple(_secrets(table, files, folder, sources)),
        dkim={} if named is None else _dkim_keys(table, folder / named, named, sources),
        authserv_ids=tuple(dict.fromkeys(one.lower() for one in values.pop("authserv_ids", ()))),
        secret_files=tuple(folder / file for file in files),
        dkim_keys=None if named is None else folder / named,
        rule=own,
        domains=domains,
        **values,
    )
    _check_keys(table, settings)
    return settings


def _domains(table: Table, default: VerifyRule) -> Iterator[tuple[str, VerifyRule]]:
    """Yield the rules of domains, by domain in normal form."""
    for name, own, where in domain_tables(table):
        values = own.only(DOMAIN_READERS)
        yield (
            name,
            VerifyRule(
                unverified=values.get("unverified", default.unverified),
                requires_token=values.get("address") == "required",
                places={**default.places, **_places(own, "unverified", "address"), "": where},
            ),
        )


def _places(table: Table, *keys: str) -> Mapping[str, Where]:
    return {key: table.where(key) for key in keys if key in table.values}


def _secrets(table: Table, files: Sequence[str], folder: Path, sources: list[Source]) -> Iterator[Secret]:
    """Yield the secrets of the files; add an error for each file that has none, or that other users can read."""
    for index, file in enumerate(files):
        if (found := read_secret_file(table, table.where("secret_files", index), file, folder, sources)) is not None:
            yield found
    if len(files) > SECRETS_LIMIT:
        fix = "Remove the oldest: a rotation needs two."
        table.fault("out_of_range", "secret_files", f"There are {len(files)} secrets, and {SECRETS_LIMIT} are allowed.", fix)


def _dkim_keys(table: Table, folder: Path, named: str, sources: list[Source]) -> dict[tuple[str, str], PublicKey]:
    """Return the public keys in a folder; add an error for each other file. Files whose names begin with a dot are ignored."""
    from sidecar.core.proof.dkim.keys import read_key  # noqa: PLC0415 - large, and needed only where there are keys

    stamp = stamp_of(folder)
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        sources.append(Source(path=folder, stamp=stamp, digest=None))
        fault = f"The folder {shown(named)} cannot be read: {error.strerror}."
        table.fault("unreadable_file", "dkim_keys", fault, "Create it, name another, or change its rights.")
        return {}
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "replace")).hexdigest()
    sources.append(Source(path=folder, stamp=stamp, digest=digest))
    keys: dict[tuple[str, str], PublicKey] = {}
    files: dict[tuple[str, str], str] = {}
    for name in names:
        file = f"{named}/{name}"
        if (content := table.content("dkim_keys", folder / name, file, sources)) is None:
            continue
        found = read_key(name, content)
        place = Where(file=file, line=1, key="")
        if isinstance(found, str):
            fix = "Correct the file, or move it out of the folder."
            table.findings.error("invalid_key", place, f"This is not a public DKIM key: {found}.", fix)
            continue
        key = found.selector, found.domain
        if key in files:
            fault = f"{files[key]} has the same selector and domain."
            table.findings.error("repeated_key", place, fault, "Keep one of the two.")
        keys[key], files[key] = found, file
    return keys


def _check_keys(table: Table, settings: VerifySettings) -> None:
    """A rule without the keys for it would reject every report."""
    has_secrets, has_any = bool(settings.secret_files), bool(settings.secret_files or settings.dkim_keys)
    for rule in (settings.rule, *settings.domains.values()):
        places = rule.places
        if rule.requires_token and not has_secrets:
            fault, fix = "No address token is valid without a secret.", "Write secret_files below [verify], or remove this."
            table.findings.error("missing_key", places["address"], fault, fix)
        if rule.unverified != "accept" and not has_any and "unverified" in places:
            fault, fix = (
                "Without keys no report is verified.",
                "Write secret_files or dkim_keys below [verify], or remove this.",
            )
            table.findings.error("missing_key", places["unverified"], fault, fix)
    if not has_any and not table.findings.errors:
        table.findings.warn(_NO_KEYS, Where(file=table.file, line=table.place.line, key=table.path))
