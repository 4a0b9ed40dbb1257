"""All settings of the program, with the places in the state directory that follow from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from sidecar.core.settings.fleet import FleetSettings, WebhookSettings
from sidecar.core.settings.proof import SignSettings, VerifySettings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import (
    CHECKPOINTS,
    AdminSettings,
    BounceRule,
    DomainEntry,
    JournalSettings,
    LimitSettings,
    LogSettings,
    MilterSettings,
    NetworkList,
)


class Settings(Struct, frozen=True, kw_only=True):
    """All settings, checked as a whole.

    `listener_relay_hosts` has the lists of the listeners that have their own, by `IP:port`. `headers` are the names (lower
    case) of the message headers that records have, `original_headers` those of a returned message. `report_size_limit` is in
    bytes; `recipient_limit` counts the recipients of one message. `decide` is when a message gets its verdict and its records:
    "early" is as soon as the verdict is certain. `text_bounces` is for bounces without a status part, and
    `unparsable_reports` for unparsable reports, to domains that accept reports. The first of `bounce_rules` that matches is the
    class of a bounce. A program that root started becomes `user` and `group`; None keeps root, and for the group means the
    user's own. With `reload_on_change` a changed file is loaded as after SIGHUP. With `compat` "kumomta" reports are read and
    records written exactly as by KumoMTA. Without `admin` nothing is served over HTTP, without `verify` no report is verified,
    without `sign` no mail is signed, without `suppression` no list is kept, and without `fleet` this node knows no others. Each
    `webhook` gets records over HTTP.
    """

    relay_hosts: NetworkList
    milter: MilterSettings
    admin: AdminSettings | None = None
    verify: VerifySettings | None = None
    sign: SignSettings | None = None
    suppression: SuppressionSettings | None = None
    fleet: FleetSettings | None = None
    webhook: tuple[WebhookSettings, ...] = ()
    journal: JournalSettings
    log: LogSettings
    state_directory: Path
    listener_relay_hosts: Mapping[str, NetworkList] = field(default_factory=dict)
    domains: Sequence[DomainEntry] = ()
    reject_at_connect: bool = True
    decide: Literal["early", "end"] = "early"
    report_size_limit: int = 10 * 1024 * 1024
    recipient_limit: int = 1000
    limits: LimitSettings = field(default_factory=LimitSettings)
    text_bounces: Literal["accept", "reject"] = "accept"
    unparsable_reports: Literal["reject", "quarantine"] = "reject"
    headers: tuple[str, ...] = ()
    original_headers: tuple[str, ...] = ()
    bounce_rules: tuple[BounceRule, ...] = ()
    node_id: str | None = None
    user: str | None = None
    group: str | None = None
    reload_on_change: bool = True
    compat: Literal["kumomta"] | None = None

    @property
    def accepts_text(self) -> bool:
        """Whether a bounce without a status part is a report. KumoMTA accepts none."""
        return self.text_bounces == "accept" and self.compat is None

    @property
    def decides_at_data(self) -> bool:
        """Whether a message can have its verdict at DATA: no record waits for its headers, and not all mail is signed."""
        return self.decide == "early" and not self.headers and (self.sign is None or bool(self.sign.domains))

    # What is in the state directory, beside the lock and the status of `daemon/process`.

    @property
    def quarantine_directory(self) -> Path:
        """The unparsable reports."""
        return self.state_directory / "quarantine"

    @property
    def checkpoints_directory(self) -> Path:
        """How far each reader has read the journal."""
        return self.state_directory / CHECKPOINTS

    @property
    def list_directories(self) -> tuple[Path, ...]:
        """The folder of the suppression list; empty without one, or if it is the state directory."""
        folder = self.state_directory if self.suppression is None else self.suppression.database.parent
        return () if folder == self.state_directory else (folder,)

    @property
    def index_file(self) -> Path:
        """The index of the journal for the console."""
        return self.state_directory / "index.db"

    @property
    def retention_file(self) -> Path:
        """When old segments were last looked for."""
        return self.state_directory / "retention"

    @property
    def node_id_file(self) -> Path:
        """The id of this installation, unless the settings name one."""
        return self.state_directory / "node_id"
