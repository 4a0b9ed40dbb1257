"""`sidecar keys`: the secrets that sign mail and verify reports, and the keys that sign a fleet's policy.

Owns the files of secrets and keys, and their rights. Never shows a secret.
"""

import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from sidecar.config.fleet import policy_key
from sidecar.core.proof.secret import SECRET_MINIMUM, make_secret, read_secret
from sidecar.core.settings.keys import DAY
from sidecar.core.settings.proof import VerifySettings
from sidecar.core.text import printable, rfc3339
from sidecar.output.help import CommandGroup
from sidecar.output.problems import config_file, config_option, secrets_or_exit
from sidecar.output.streams import print_json, print_lines
from sidecar.output.terminal import TextTable, console, plain

_OWN: Final = 0o600
# Root owns it, and the service reads it by its group.
_SHARED: Final = 0o640
_PUBLIC: Final = 0o644
# Two are needed to rotate: the new one signs, and the old one still verifies.
_ROTATED: Final = 2


class SecretFile(Struct, frozen=True, kw_only=True):
    """A secret as `list --json` prints it. `key_id` is in each token. `made` is the time of the file, RFC 3339."""

    file: str
    key_id: str
    use: str
    made: str


@click.group(
    "keys",
    cls=CommandGroup,
    examples=[
        "sidecar keys make /etc/sidecar/secret /etc/sidecar/secret.old",
        "sidecar keys list --config /etc/sidecar/sidecar.toml",
        "sidecar keys rotate --config /etc/sidecar/sidecar.toml",
        "sidecar keys policy policy.key",
    ],
    statuses={0: "success", 1: "the settings have no secret, or a file cannot be read or written"},
)
def command() -> None:
    """Make, list and rotate the secrets that sign mail and verify reports, and make the keys of a fleet's policy.

    The settings name the files of secrets: `secret_files` below [verify]. No command shows a secret.
    """


@command.command(
    "make",
    examples=["sidecar keys make /etc/sidecar/secret /etc/sidecar/secret.old"],
    statuses={0: "the files are made", 1: "a file exists or cannot be written; the files before it are made"},
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@config_option
def make(files: Sequence[Path], config: Path | None) -> None:
    """Make a new secret in each FILE.

    A file that exists is never replaced. Only its owner can read the file. If root makes it, the group of its folder, or else
    that of the settings file, can read it, too, unless this is root's own group.
    """
    config = config_file(config, otherwise="no settings name a group that can read the files")
    for file in files:
        line, key_id = _new_secret()
        try:
            _write_new(file, line, *_rights_of(file, config))
        except FileExistsError:
            fix = "Name another file. `sidecar keys rotate` replaces secrets that are in use."
            raise click.ClickException(f"{file} exists, and is not replaced. {fix}") from None
        except OSError as error:
            raise _unwritable(file, error) from error
        print_lines([f"{file}: the secret with the key id {key_id}."])


@command.command(
    "policy",
    examples=["sidecar keys policy policy.key"],
    statuses={0: "both files are made", 1: "one of the files exists or cannot be written"},
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def policy(file: Path) -> None:
    """Make the pair of keys that sign a fleet's policy.

    They are Ed25519 keys. `sidecar fleet publish --key FILE` signs with the private key, in FILE. Only its owner can read it:
    keep it off the nodes and off the NATS servers. The nodes name the public key, FILE.pub, in `policy_keys` below [fleet]. A
    file that exists is never replaced.
    """
    from sidecar.fleet.policy.signature import make_pair  # noqa: PLC0415 - the other commands need no cryptography

    private, public = make_pair()
    known = policy_key(public)
    assert known is not None  # noqa: S101 - it was made in the line above
    path = file
    try:
        _write_new(file, private, _OWN, -1)
        path = file.with_name(f"{file.name}.pub")
        _write_new(path, public, _PUBLIC, -1)
    except FileExistsError:
        if path != file:
            file.unlink()
        raise click.ClickException(f"{path} exists, and is not replaced. Name another file.") from None
    except OSError as error:
        raise _unwritable(path, error) from error
    print_lines(
        [f"{file}: the private key {known.id}. Keep it safe.", f"{path}: its public key, for policy_keys of the nodes."]
    )


@command.command(
    "list",
    short_help="List the secrets of the settings.",
    examples=["sidecar keys list --config /etc/sidecar/sidecar.toml"],
    statuses={0: "success", 1: "the settings have errors, or no secret"},
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def list_secrets(config: Path | None, *, as_json: bool) -> None:
    """List the secrets of the settings: the file, the key id in its tokens, its use and its age."""
    verify = secrets_or_exit(config)
    found = [*_described(verify)]
    if as_json:
        print_json({"secrets": found})
        return
    table = TextTable("FILE", "KEY ID", "USE", "MADE")
    for one in found:
        table.add_row(plain(one.file), plain(one.key_id), plain(one.use), plain(one.made))
    console().print(table)


@command.command(
    "rotate",
    examples=["sidecar keys rotate --config /etc/sidecar/sidecar.toml"],
    statuses={0: "the new secret is in the first file", 1: "nothing is changed"},
)
@config_option
@click.option("--force", is_flag=True, help="Also drop a secret whose tokens are still valid.")
def rotate(config: Path | None, *, force: bool) -> None:
    """Make a new secret that signs, and let the previous ones verify.

    The new secret is written into the first of `secret_files`. The content of each file moves to the next one, and that of the
    last one is dropped. This needs two files at least. The running sidecar loads them without a restart.
    """
    verify = secrets_or_exit(config)
    files = verify.secret_files
    if len(files) < _ROTATED:
        fix = "Make a second one with `sidecar keys make FILE`, and add it to secret_files."
        raise click.ClickException(f"{files[0]} is the only secret file: the old secret would have no place. {fix}")
    until = files[-2].stat().st_mtime + DAY + verify.maximum_age
    if until > time.time() and not force:
        text = f"{files[-1]} can have tokens that are valid until {rfc3339(int(until))}: its successor is not older."
        raise click.ClickException(f"{text} Rotate later, add another file, or write --force.")
    # From the last one on: whenever this ends, each file has a secret, and only the last one is gone.
    try:
        for older, newer in zip(files[:0:-1], files[-2::-1], strict=True):
            _replace(older, newer.read_bytes(), newer.stat().st_mtime)
        line, key_id = _new_secret()
        _replace(files[0], line, None)
    except OSError as error:
        raise _unwritable(Path(str(error.filename or files[0])), error) from error
    print_lines([f"{files[0]}: the new secret has the key id {key_id}. It signs from now on."])


def _described(verify: VerifySettings) -> Iterator[SecretFile]:
    for number, (file, secret) in enumerate(zip(verify.secret_files, verify.secrets, strict=True)):
        made = rfc3339(int(file.stat().st_mtime))
        yield SecretFile(file=str(file), key_id=secret.id, use="verifies" if number else "signs and verifies", made=made)


def _new_secret() -> tuple[bytes, str]:
    """Return the line of a new secret, and its key id."""
    line = f"{make_secret(secrets.token_bytes(SECRET_MINIMUM))}\n".encode()
    secret = read_secret(line)
    return line, secret if isinstance(secret, str) else secret.id


def _rights_of(file: Path, config: Path | None) -> tuple[int, int]:
    """Return mode and group of a new secret. The service reads it by the group of its folder or of the settings file."""
    if os.geteuid() != 0:
        return _OWN, os.getegid()
    groups = (path.stat().st_gid for path in (file.parent, config) if path is not None and path.exists())
    group = next(filter(None, groups), 0)
    return (_SHARED, group) if group else (_OWN, 0)


def _write_new(file: Path, content: bytes, mode: int, group: int) -> None:
    """Write a file that does not exist, on disk. Raise OSError."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _OWN), "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fchown(opened.fileno(), -1, group)
        os.fchmod(opened.fileno(), mode)
        os.fsync(opened.fileno())


def _replace(file: Path, content: bytes, made: float | None) -> None:
    """Replace a file in one step, with the same rights and owner. Raise OSError."""
    before = file.stat()
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    _write_new(draft, content, stat.S_IMODE(before.st_mode), before.st_gid)
    if os.geteuid() == 0:
        os.chown(draft, before.st_uid, before.st_gid)
    if made is not None:
        os.utime(draft, (made, made))
    draft.replace(file)


def _unwritable(file: Path, error: OSError) -> click.ClickException:
    return click.ClickException(printable(f"{file} cannot be written: {error.strerror}."))
