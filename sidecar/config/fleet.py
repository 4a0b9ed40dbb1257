"""The sections [fleet] and [[webhook]]: where records are shipped to.

Owns their keys, which addresses need TLS, and the form of credentials. Never opens a connection.
"""

import hashlib
import os
import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from sidecar.config.findings import Kind
from sidecar.config.readers import Reader, choice, list_of, one_or_more, text, wrong
from sidecar.config.secrets import private_content, read_secret_file
from sidecar.config.tables import Table
from sidecar.core.settings.fleet import FleetSettings, PolicyKey, WebhookSettings
from sidecar.core.settings.values import RECORD_TYPES, Source, Where
from sidecar.core.text import quoted, shown

NATS_PORT: Final = 4222
# Each has a task of its own, and reads the whole journal.
_WEBHOOKS: Final = 16
# A token of a NATS subject, without the characters that mean something there.
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SEED: Final = re.compile(rb"^SU[A-Z2-7]{56}\s*$", re.MULTILINE)
_PUBLIC_KEY: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]{1,200})-----END PUBLIC KEY-----")
# SubjectPublicKeyInfo with the object identifier of Ed25519, up to the key itself (RFC 8410 section 4).
_ED25519: Final = bytes.fromhex("302a300506032b6570032100")
_KEY_SIZE: Final = 32
# 64 bits of its SHA-256 name a key. Nothing depends on it: a signature is checked with the key itself.
_ID_LENGTH: Final = 16

_NO_TLS: Final = Kind(
    "no_tls",
    "The connection to {host} has no TLS: who can read or change it, can read or suppress records.",
    "Write tls:// instead of nats://, unless the network encrypts it.",
)


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        fix = "Write 1 to 64 letters, digits, dashes and underscores: it is a part of NATS subjects."
        raise wrong(f"{shown(value)} is not such a name.", fix)
    return value


def _split(value: object, what: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """Split a URL that has a host, and neither a user nor a fragment."""
    fix = f"Write {what} such as {quoted(example)}."
    written = text(what)(value)
    try:
        url = urlsplit(written)
        port = url.port
    except ValueError:
        raise wrong(f"{shown(written)} is not a URL.", fix) from None
    if url.scheme not in schemes or not url.hostname or port == 0 or url.fragment or written != written.strip():
        raise wrong(f"{shown(written)} is not {what}.", fix)
    if url.username is not None:
        raise wrong("The URL has a user or a password.", "Remove them, and write a file that only the service can read.")
    return url


def _server(value: object) -> str:
    """Read the URL of a server; return it with its port."""
    url = _split(value, "the URL of a NATS server", ("nats", "tls"), "tls://nats1.example.com:4222")
    if url.path not in {"", "/"} or url.query:
        raise wrong(f"{shown(value)} has a path.", 'Write only scheme, host and port: "tls://nats1.example.com:4222".')
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}:{url.port or NATS_PORT}"


def _endpoint(value: object) -> str:
    url = _split(value, "the URL of an HTTPS endpoint", ("http", "https"), "https://example.com/records")
    if url.scheme == "http" and not _is_local(url.hostname):
        raise wrong(f"{shown(value)} has no TLS.", "Write https://. Only an endpoint on this machine can have http://.")
    return str(value)


def _is_local(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


READERS: Final[dict[str, Reader[Any]]] = {
    "servers": one_or_more(_server, '["tls://nats1.example.com:4222"]'),
    "name": _name,
    "node": _name,
    "credentials": text("a file"),
    "tls_ca": text("a file"),
    "policy_keys": one_or_more(text("a file"), '["policy.key.pub"]'),
}
"""The keys of [fleet]."""

WEBHOOK_READERS: Final[dict[str, Reader[Any]]] = {
    "name": _name,
    "url": _endpoint,
    "secret_file": text("a file"),
    "types": list_of(choice(*RECORD_TYPES), '["OOB", "Feedback"]'),
    "tls_ca": text("a file"),
}
"""The keys of [[webhook]]."""


def default_node() -> str:
    """Return the host name of this machine as one token: its dots become underscores, which no host name has."""
    return re.sub(r"[^A-Za-z0-9-]", "_", os.uname().nodename)[:64] or "node"


def read_fleet(table: Table, where: Where, folder: Path, sources: list[Source], revision: int | None) -> FleetSettings | None:
    """Read the section, which begins at `where`; None without servers, which is an error. The files become `sources`.

    `revision` is that of the fleet's policy, if it is in use.
    """
    values = table.only(READERS)
    if not values.get("servers"):
        if "servers" not in table.values:
            fix = 'Write servers = ["tls://nats1.example.com:4222"] below it, or remove the section.'
            table.findings.error("missing_key", where, "[fleet] has no servers.", fix)
        elif "servers" in values:
            table.fault("missing_key", "servers", "The list is empty.", 'Write "tls://nats1.example.com:4222" into it.')
        return None
    if (file := values.pop("credentials", None)) is not None:
        _check_credentials(table, file, folder, sources)
        values["credentials"] = folder / file
    keys: Sequence[str] = values.pop("policy_keys", ())
    values["policy_keys"] = tuple(_policy_keys(table, keys, folder, sources))
    values |= _ca(table, values, folder, sources)
    settings = FleetSettings(**{"node": default_node()} | values, revision=revision)
    for index, url in enumerate(settings.servers):
        if url.startswith("nats:") and not _is_local(urlsplit(url).hostname):
            table.findings.warn(_NO_TLS, table.where("servers", index), host=urlsplit(url).hostname)
    return settings


def _check_credentials(table: Table, file: str, folder: Path, sources: list[Source]) -> None:
    where = table.where("credentials")
    content = private_content(table, where, file, folder, sources, fix="Copy the file of this node here")
    if content is not None and not _SEED.search(content):
        fix = "Write a NATS credentials file (nsc generate creds), or one with the line of a user's seed, SU..."
        table.findings.error("invalid_key", Where(file=file, line=1, key=""), "It has no seed of a NATS user.", fix)


def _policy_keys(table: Table, files: Sequence[str], folder: Path, sources: list[Source]) -> Iterator[PolicyKey]:
    """Yield the public keys of the files; add an error for each file that has none."""
    for index, file in enumerate(files):
        content = table.content("policy_keys", folder / file, file, sources, index)
        if content is None:
            continue
        if (key := policy_key(content)) is not None:
            yield key
            continue
        fix = "Name the file that ends in .pub, which `sidecar keys policy` makes beside the private key."
        fault = f"{shown(file)} has no Ed25519 public key in PEM form."
        table.findings.error("invalid_key", table.where("policy_keys", index), fault, fix)


def policy_key(content: bytes) -> PolicyKey | None:
    """Return the public key of a PEM file (RFC 8410); None if it has another form."""
    found = _PUBLIC_KEY.fullmatch(content.strip())
    try:
        encoded = b"" if found is None else b64decode(b"".join(found[1].split()), validate=True)
    except ValueError:
        return None
    public = encoded.removeprefix(_ED25519)
    if len(public) != _KEY_SIZE or len(encoded) != _KEY_SIZE + len(_ED25519):
        return None
    return PolicyKey(id=hashlib.sha256(public).hexdigest()[:_ID_LENGTH], public=public)


def _ca(table: Table, values: dict[str, Any], folder: Path, sources: list[Source]) -> dict[str, Path]:
    """Check the file of certificates. Return its path under its key, if it is set."""
    if (file := values.get("tls_ca")) is None:
        return {}
    content = table.content("tls_ca", folder / file, file, sources)
    if content is not None and b"-----BEGIN CERTIFICATE-----" not in content:
        fix = "Name a file with the certificates of authorities in PEM form."
        table.fault("invalid_key", "tls_ca", f"{shown(file)} has no certificate.", fix)
    return {"tls_ca": folder / file}


def read_webhooks(table: Table, folder: Path, sources: list[Source]) -> tuple[WebhookSettings, ...]:
    """Read the sections [[webhook]] of the settings file `table`. The files become `sources`."""
    found: dict[str, WebhookSettings] = {}
    lines: dict[str, int] = {}
    tables = table.tables("webhook")
    for own in tables:
        for webhook in _webhook(own, folder, sources):
            if webhook.name in found:
                fault = f"The webhook on line {lines[webhook.name]} has the same name."
                own.fault("conflict", "name", fault, "Write another name: each webhook has a checkpoint under its name.")
            found.setdefault(webhook.name, webhook)
            lines.setdefault(webhook.name, own.place.line)
    if len(tables) > _WEBHOOKS:
        fault = f"There are {len(tables)} webhooks, and {_WEBHOOKS} are allowed."
        table.fault("out_of_range", "webhook", fault, "Remove some, or read the records with a NATS consumer.")
    return tuple(found.values())


def _webhook(table: Table, folder: Path, sources: list[Source]) -> Iterator[WebhookSettings]:
    """Yield the webhook of a section, or nothing and an error."""
    where = Where(file=table.file, line=table.place.line, key=table.path)
    values = table.only(WEBHOOK_READERS)
    for key, example in {"name": "crm", "url": "https://example.com/records", "secret_file": "webhook.secret"}.items():
        if key not in table.values:
            table.findings.error(
                "missing_key", where, f"The webhook has no {key}.", f"Write {key} = {quoted(example)} below it."
            )
    if (file := values.get("secret_file")) is not None:
        read_secret_file(table, table.where("secret_file"), file, folder, sources)
        values["secret_file"] = folder / file
    values |= _ca(table, values, folder, sources)
    if values.keys() >= {"name", "url", "secret_file"}:
        yield WebhookSettings(**values)
