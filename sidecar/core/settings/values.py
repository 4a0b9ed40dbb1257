"""The values that settings are made of.

Owns their shape and their defaults. Never reads a file.
"""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal

from msgspec import Struct

_BITS = {4: 32, 6: 128}

RECORD_TYPES = ("Reception", "Rejection", "OOB", "Feedback")
"""The types of records that are written."""

CHECKPOINTS = "checkpoints"
"""The name of the folder of checkpoints in the state directory, also for commands that have no settings."""

ANY_LISTENER = "*"
"""The name of the map for all listeners (KumoMTA: the tables outside `[listener."..."]`)."""


class LogMode(Enum):
    """What happens to a report for a domain (KumoMTA: LogReportDisposition)."""

    IGNORE = "Ignore"
    LOG_THEN_RELAY = "LogThenRelay"
    LOG_THEN_DROP = "LogThenDrop"

    # Enum hashes the name, in Python; a member is itself, and the policy reads it for every recipient.
    __hash__ = object.__hash__


Stamp = tuple[int, ...]
"""The fields of stat(2) that a change of the file changes. It is only compared."""


class Source(Struct, frozen=True, kw_only=True):
    """A file of the settings.

    `stamp` was taken just before reading it, so that a later change differs; None if the file did not exist. `digest` is the
    SHA-256 of the content in hexadecimal; None if it could not be read.
    """

    path: Path
    stamp: Stamp | None
    digest: str | None


class Where(Struct, frozen=True, kw_only=True):
    """A place in a settings file.

    `file` is the path as the operator named it; `line` counts from 1; `key` is the path of keys as TOML spells it, such as
    `"bounce.example.com".log_oob` or `listener."10.1.1.1:25".relay_hosts`.
    """

    file: str
    line: int
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Network(Struct, frozen=True, kw_only=True):
    """An IP literal or a strict CIDR block.

    `text` is as written; `version` 4 or 6; `first` the network address as an integer; `prefix` its length in bits. An
    IPv4-mapped IPv6 network (`::ffff:192.168.1.0/120`) is kept as its IPv4 network.
    """

    text: str
    version: Literal[4, 6]
    first: int
    prefix: int

    @property
    def span(self) -> tuple[int, int, int]:
        """The version, the first and the last address: equal for all spellings of a network."""
        return self.version, self.first, self.first + (1 << (_BITS[self.version] - self.prefix)) - 1


class NetworkList(Struct, frozen=True, kw_only=True):
    """A list of networks and where it was set; `where` is None for the built-in default."""

    networks: tuple[Network, ...]
    where: Where | None


class DomainEntry(Struct, frozen=True, kw_only=True):
    """The settings of one domain on one listener, after merging the listener domains files.

    `listener` is `ANY_LISTENER` or `IP:port`; `domain` the normal form (lower case, A-labels, no trailing dot), with `*` as
    the label for any labels. `path` is the entry's key path as written, and `line` the line of its table. `steps` has the file
    and the lines from there for each key that was set, and under `""` for the table: many entries share it. `trues` are the
    report keys that were written `true`, for LogThenRelay.
    """

    listener: str
    domain: str
    path: str
    line: int
    steps: Mapping[str, tuple[str, int]]
    relay_to: bool = False
    relay_from: tuple[Network, ...] = ()
    relay_from_authz: tuple[str, ...] = ()
    log_oob: LogMode = LogMode.IGNORE
    log_arf: LogMode = LogMode.IGNORE
    trues: tuple[str, ...] = ()

    def where(self, key: str) -> Where:
        """Return where `key` was set; the place of the entry if it has its default."""
        file, step = self.steps.get(key) or self.steps[""]
        return Where(file=file, line=self.line + step, key=f"{self.path}.{key}" if key in self.steps and key else self.path)


class BounceRule(Struct, frozen=True, kw_only=True):
    """A regular expression of a rule file, the class of the responses that it matches, and its place."""

    pattern: str
    bounce_class: str
    where: Where


class MilterSettings(Struct, frozen=True, kw_only=True):
    """The milter's socket and its workers.

    `socket` is `unix:/path` or `inet:host:port` (Postfix's spelling). `socket_mode` is a mode in octal digits; owner and group
    are names or None to leave them. `workers` counts processes. Without `allow_remote` the address is on loopback.
    `engine` names the implementation of the protocol: "direct" (the program itself), or "libmilter". With
    `cpu_affinity` each worker runs on one CPU.
    """

    socket: str = "inet:127.0.0.1:8893"
    socket_mode: int = 0o660
    socket_owner: str | None = None
    socket_group: str | None = None
    workers: int = 2
    engine: str = "direct"
    cpu_affinity: bool = True
    allow_remote: bool = False


Role = Literal["reader", "operator"]
"""The rights of a token: an operator can also change the suppression list."""


class AdminToken(Struct, frozen=True, kw_only=True):
    """A token for HTTP: its file, and the SHA-256 of its text in hexadecimal. The settings do not have the text itself."""

    role: Role
    file: Path
    digest: str


class AdminSettings(Struct, frozen=True, kw_only=True):
    """Where policy and metrics are served over HTTP: a socket as for the milter, always on the loopback interface.

    `tokens` has at most one token of each role. Without one of an operator nothing can be changed over HTTP. With `console`
    there are web pages for people too, and an index of the journal for them.
    """

    socket: str = "inet:127.0.0.1:8894"
    socket_mode: int = 0o660
    socket_owner: str | None = None
    socket_group: str | None = None
    tokens: tuple[AdminToken, ...] = ()
    console: bool = False


class RecordSettings(Struct, frozen=True, kw_only=True):
    """The segments of one type of record: their directory, and the end of their names. None means the journal's own.

    Types with the same directory and suffix share their segments.
    """

    directory: Path | None = None
    suffix: str | None = None
    enabled: bool = True


class JournalSettings(Struct, frozen=True, kw_only=True):
    """Where records are kept, and when a segment is finished: at `segment_size` bytes, or after `segment_age` seconds.

    KumoMTA's own tools read `format` "zstd"; `segment_size` then counts the bytes before compression, and `compression_level`
    0 is zstd's default. `meta` names the entries of a record's `meta` that are kept, with `*` at the end for all that begin
    like this; None keeps all. Finished segments are deleted, the oldest first: `keep_age` seconds after their last line, while
    all segments have more than `keep_size` bytes, and while a file system of the journal has less than `minimum_free` bytes
    free; 0 turns each off. If its free space stays below `minimum_free`, the program is degraded. The last fields are named
    after the types of records.
    """

    directory: Path
    segment_size: int = 64 * 1024 * 1024
    segment_age: int = 3600
    format: Literal["plain", "zstd"] = "plain"
    compression_level: int = 0
    meta: tuple[str, ...] | None = None
    keep_age: int = 90 * 24 * 3600
    keep_size: int = 0
    minimum_free: int = 1024 * 1024 * 1024
    Reception: RecordSettings = RecordSettings()
    Rejection: RecordSettings = RecordSettings()
    OOB: RecordSettings = RecordSettings()
    Feedback: RecordSettings = RecordSettings()

    def place(self, record_type: str) -> tuple[Path, str] | None:
        """Return the directory of a type's segments, and how their names end; None for a type that is not written."""
        own: RecordSettings = getattr(self, record_type)
        if not own.enabled:
            return None
        by_format = ".jsonl" if self.format == "plain" else ""
        return own.directory or self.directory, by_format if own.suffix is None else own.suffix

    @property
    def directories(self) -> tuple[Path, ...]:
        """All directories of segments; the journal's own is the first, even if no type uses it."""
        places = (self.place(record_type) for record_type in RECORD_TYPES)
        return tuple(dict.fromkeys((self.directory, *(place[0] for place in places if place is not None))))


class LimitSettings(Struct, frozen=True, kw_only=True):
    """The limits of resources. Each worker counts for itself, except for the quarantine, which all share.

    `header_size` bounds the header section of a message that claims to be a report. `reports_per_second`,
    `signatures_per_second` (the DKIM signatures in reports that are checked) and `rejection_records_per_second` are for one
    network (an IPv4 address, an IPv6 /64); only the last includes relay hosts.
    `report_memory` bounds the bytes of all messages that may be reports, and of reading those above 256 kB, which needs four
    times their size; `sessions` the SMTP connections. The records of one external network have at most
    `record_bytes_per_byte` bytes for each byte received from it (0: no limit), and `record_bytes_burst` bytes more, which are
    restored within a day. The quarantine has `quarantine_size` bytes at most, a quarter of it from one network, and keeps a
    message `quarantine_age` seconds. The index of the console has the records of the last `index_age` seconds.
    """

    header_size: int = 256 * 1024
    reports_per_second: int = 100
    report_memory: int = 128 * 1024 * 1024
    sessions: int = 5000
    rejection_records_per_second: int = 100
    signatures_per_second: int = 100
    record_bytes_per_byte: int = 5
    record_bytes_burst: int = 1024 * 1024
    quarantine_size: int = 1024 * 1024 * 1024
    quarantine_age: int = 30 * 24 * 3600
    index_age: int = 30 * 24 * 3600


class LogSettings(Struct, frozen=True, kw_only=True):
    """The program's own log: `format` "auto" is text on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
