"""`sidecar quarantine`: the reports in the quarantine: list them, show one, delete them.

Owns the texts about messages. Their bytes are external data: they are shown escaped, or written as they are into a file.
"""

import errno
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Final

import click
import msgspec
from msgspec import Struct

from sidecar.core.records import decode
from sidecar.core.text import age, counted, did_you_mean, in_units, printable, printable_json, rfc3339
from sidecar.journal.write.quarantine import KeptMessage, Quarantine
from sidecar.machine import missing_right, name_of_user
from sidecar.output.help import CommandGroup
from sidecar.output.problems import config_option, reader_settings_or_exit
from sidecar.output.streams import print_json
from sidecar.output.terminal import TextTable, console, plain

# The first digits of a random id: among a million messages, 12 are the same with a chance of 1 in 500.
_SHORT = 12
_ID = 32
# A record has some kB, and with `headers` little more than its message's header section.
# Larger files could fill the memory.
_RECORD_LIMIT: Final = 16 << 20
# `--raw` needs no memory for the message.
_SHOWN_LIMIT: Final = 64 << 20


class QuarantinedMessage(Struct, frozen=True, kw_only=True):
    """A message as `list --json` prints it; None is what its files do not say. `size` is in bytes."""

    id: str
    file: str
    time: str
    size: int | None = None
    peer: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] | None = None
    why: str | None = None


class _Folder:
    """The quarantine of the settings. Its content can be hostile: root also reads and deletes there."""

    def __init__(self, config: Path | None) -> None:
        settings = reader_settings_or_exit(config)
        self.path = settings.quarantine_directory
        limits = settings.limits
        self.quarantine = Quarantine(self.path, size=limits.quarantine_size, age=limits.quarantine_age)
        # That user could make root work in another folder, such as that of another sidecar.
        if os.geteuid() == 0 and self.path.is_symlink() and (owner := self.path.lstat().st_uid) != 0:
            user = name_of_user(owner)
            fix = f"Run the command as this user: sudo -u {user}."
            raise click.ClickException(
                printable(f"{self.path} is a symbolic link of user {user}: root does not follow it. {fix}")
            )

    def messages(self) -> list[KeptMessage]:
        """Return all messages, the oldest first; none without a quarantine."""
        with self.used():
            return self.quarantine.messages() if self.path.exists() else []

    def find(self, ids: Sequence[str]) -> list[KeptMessage]:
        """Return the messages with these ids, which may be shortened, or names of files. Raise click.ClickException."""
        messages = self.messages()
        found: dict[str, KeptMessage] = {}
        for wanted in ids:
            stem = wanted.removesuffix(".eml")
            matches = [one for one in messages if one.name == stem or (stem and one.id.startswith(stem))]
            if len(matches) > 1:
                raise click.ClickException(f"{wanted!r} is the beginning of {len(matches):,} ids. Write more digits.")
            if not matches:
                hint = did_you_mean(stem, (one.id for one in messages[-1000:]), "`sidecar quarantine list` shows all ids.")
                raise click.ClickException(f"There is no message {wanted!r} in {self.path}. {hint}")
            found[matches[0].name] = matches[0]
        return list(found.values())

    def described(self, message: KeptMessage) -> QuarantinedMessage:
        """Return what the files of a message say about it."""
        file = f"{message.name}.eml"
        known = QuarantinedMessage(id=message.id, file=file, time=rfc3339(int(message.arrived.timestamp())))
        try:
            known = msgspec.structs.replace(known, size=(self.path / file).lstat().st_size)
            record = decode(self.quarantine.read(f"{message.name}.json", limit=_RECORD_LIMIT))
        except PermissionError as error:
            raise self._failure(error) from error
        except (OSError, ValueError, RecursionError):
            return known  # the list has all other messages, too
        return msgspec.structs.replace(
            known,
            peer="" if record.peer_address is None else record.peer_address.addr,
            sender=record.sender,
            recipients=record.recipients,
            why=str(record.meta.get("why", "")),
        )

    @contextmanager
    def used(self, needed: int = os.R_OK) -> Iterator[None]:
        """Turn a fault of the folder or of a file in it into a sentence, also a missing right."""
        try:
            yield
        except OSError as error:
            raise self._failure(error, needed) from error

    def _failure(self, error: OSError, needed: int = os.R_OK) -> click.ClickException:
        path, what = Path(str(error.filename or self.path)), "read" if needed == os.R_OK else "changed"
        why = error.strerror or str(error)
        if isinstance(error, PermissionError):
            why = missing_right(self.path, needed) or missing_right(path, needed) or why
        elif error.errno == errno.EFBIG:
            why += "; show it with --raw"
        return click.ClickException(printable(f"{path} cannot be {what}: {why}."))


@click.group(
    "quarantine",
    cls=CommandGroup,
    examples=[
        "sidecar quarantine list --config /etc/sidecar/sidecar.toml",
        "sidecar quarantine show --config /etc/sidecar/sidecar.toml 1f3a92c07b44",
        "sidecar quarantine delete --config /etc/sidecar/sidecar.toml --older-than 7d",
    ],
    statuses={0: "success", 1: "the quarantine cannot be read or changed, or a message does not exist"},
)
def command() -> None:
    """List, show and delete the reports in the quarantine.

    With `unparsable_reports = "quarantine"` the sidecar keeps there what claims to be a report and cannot be parsed, and with
    `unverified = "quarantine"` in [verify] the reports that prove nothing. It deletes
    messages that are older than `limits.quarantine_age`. ID is the id of a message, its first digits, or the name of its file.
    """


_STATUSES = {0: "success", 1: "the quarantine cannot be read, or a message does not exist"}


@command.command(
    "list",
    examples=[
        "sidecar quarantine list --config /etc/sidecar/sidecar.toml",
        "sidecar quarantine list --json --config sidecar.toml |\n    jq -r .peer | sort | uniq -c",
    ],
    statuses=_STATUSES,
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message, one on each line.")
def list_messages(config: Path | None, *, as_json: bool) -> None:
    """List all messages, the oldest first.

    The columns are the id, the time (UTC), the peer, the size and the reason. On a terminal an id is
    shortened to the first digits that no other id has.
    """
    folder = _Folder(config)
    messages = folder.messages()
    if as_json:
        for message in messages:
            print_json(folder.described(message))
        return
    if not messages:
        click.echo(printable(f"The quarantine in {folder.path} is empty."))
        return
    screen = console()
    table = TextTable("id", "time", "peer", "size#", "why")
    digits = _digits(messages) if screen.is_terminal else _ID
    for message in messages:
        known = folder.described(message)
        size = "" if known.size is None else in_units(known.size)
        why = "its record cannot be read" if known.why is None else known.why
        when = f"{message.arrived:%Y-%m-%d %H:%M:%S}"
        table.add_row(known.id[:digits], when, plain(known.peer or ""), size, plain(why))
    screen.print(table)


def _digits(messages: Sequence[KeptMessage]) -> int:
    """Return how many digits make all ids different."""
    return next((n for n in range(_SHORT, _ID) if len({one.id[:n] for one in messages}) == len(messages)), _ID)


@command.command(
    "show",
    examples=[
        "sidecar quarantine show --config /etc/sidecar/sidecar.toml 1f3a92c07b44 | less",
        "sidecar quarantine show --raw --config sidecar.toml 1f3a92c07b44 > report.eml",
    ],
    statuses=_STATUSES,
)
@config_option
@click.option("--raw", is_flag=True, help="Write the bytes of the message into a pipe or a file, not to a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the record and the message.")
@click.argument("wanted", metavar="ID")
def show(config: Path | None, wanted: str, *, raw: bool, as_json: bool) -> None:
    """Show a message: its record as JSON, then the message. Characters that control a terminal are escaped."""
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other. Write one of them.")
    folder = _Folder(config)
    [message] = folder.find([wanted])
    if raw and sys.stdout.isatty():
        raise click.ClickException("A raw message can contain characters that control a terminal. Write it into a file: > FILE")
    file = f"{message.name}.eml"
    if raw:
        with folder.used(), folder.quarantine.opened(file) as opened:
            shutil.copyfileobj(opened, sys.stdout.buffer)
        return
    # None without a record, and for a damaged one.
    record = None
    with folder.used():
        content = folder.quarantine.read(file, limit=_SHOWN_LIMIT)
        with suppress(FileNotFoundError, ValueError, RecursionError):
            record = msgspec.json.decode(folder.quarantine.read(f"{message.name}.json", limit=_RECORD_LIMIT))
    if as_json:
        text = content.decode("utf-8", "replace")
        print_json({"id": message.id, "file": file, "record": record, "message": text})
    else:
        _print_message(record, content)


def _print_message(record: object, content: bytes) -> None:
    out = sys.stdout.buffer
    out.write(printable_json(msgspec.json.format(msgspec.json.encode(record), indent=2)) + b"\n\n")
    for text in BytesIO(content):
        shown = text.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        out.write("\t".join(map(printable, shown.split("\t"))).encode() + b"\n")


@command.command(
    "delete",
    examples=[
        "sidecar quarantine delete --config sidecar.toml 1f3a92c07b44 9c01d5e8f3aa",
        "sidecar quarantine delete --config sidecar.toml --older-than 7d",
        "sidecar quarantine delete --config sidecar.toml --all",
    ],
    statuses={0: "success", 1: "a message does not exist, or cannot be deleted"},
)
@config_option
@click.option("--older-than", metavar="AGE", help="All messages that are older: 90m, 12h, 7d, 2w.")
@click.option("--all", "everything", is_flag=True, help="All messages.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the ids of the deleted messages.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def delete(config: Path | None, older_than: str | None, ids: tuple[str, ...], *, everything: bool, as_json: bool) -> None:
    """Delete messages with their records. The sidecar can use their space at once.

    If a message does not exist, nothing is deleted.
    """
    if [bool(ids), older_than is not None, everything].count(True) != 1:
        raise click.UsageError("Name the messages: write their ids, or --older-than AGE, or --all.")
    latest = math.inf if older_than is None else time.time() - _seconds_of(older_than)
    folder = _Folder(config)
    wanted = folder.find(ids) if ids else [one for one in folder.messages() if one.arrived.timestamp() < latest]
    deleted: list[KeptMessage] = []
    freed = 0
    try:
        with folder.used(os.W_OK):
            for message in wanted:
                freed += folder.quarantine.remove(message.name)
                deleted.append(message)
    finally:
        # Also if one of them cannot be deleted.
        _print_deleted(deleted, freed, as_json=as_json)


def _seconds_of(text: str) -> int:
    if (seconds := age(text)) is None:
        raise click.BadParameter(f"{text!r} is no age; write one such as 90m, 12h, 7d or 2w.", param_hint="--older-than")
    return seconds


def _print_deleted(deleted: Sequence[KeptMessage], freed: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"deleted": [message.id for message in deleted], "bytes_freed": freed})
        return
    for message in deleted:
        click.echo(f"deleted {message.id}, of {message.arrived:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"{counted(len(deleted), 'message')} deleted, {in_units(freed)} freed.")
