"""One smtpd beside a sidecar: what several checks ask about it.

Owns the questions about the settings of both. Never makes a finding.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.commands.doctor.findings import export_command
from sidecar.commands.doctor.postfix.settings import Postfix, split, unbraced
from sidecar.commands.doctor.postfix.tables import DomainList
from sidecar.commands.doctor.sockets import milter_address, reaches
from sidecar.core.open_domains import EXPORT_HEAD, POSTFIX_FILE, OpenDomains
from sidecar.core.settings.settings import Settings

OWN_DOMAINS = ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains")
"""The lists of domains whose mail ends at this machine (ADDRESS_CLASS_README)."""

REJECTS = ("reject_unauth_destination", "defer_unauth_destination", "reject", "defer")

WHILE_DOWN = {
    "accept": "Postfix accepts mail unchecked and without a record",
    "reject": "Postfix rejects mail permanently, including reports",
    "quarantine": "Postfix answers 250 and holds the mail, without a record",
}
"""What Postfix does while the sidecar is down, by a `default_action` that is not safe."""


class Smtpd(Postfix, frozen=True, kw_only=True):
    """The settings of one smtpd, and those of the sidecar.

    `others` are the smtpds of the same Postfix, also those that only this machine can reach.
    """

    sidecar: Settings
    config: Path | None
    domains: OpenDomains
    others: Sequence[Postfix] = ()

    @property
    def listening(self) -> str:
        """The sidecar's socket."""
        return self.sidecar.milter.socket

    @property
    def queue(self) -> str:
        """Postfix's queue directory, which is the root of a chroot."""
        return self.text("queue_directory")

    @property
    def exported(self) -> str | None:
        """The file in relay_domains that `sidecar export` wrote, or None."""
        files = (word for word in self.words("relay_domains") if word.startswith("/"))
        return next((name for name in files if name == POSTFIX_FILE or (self.read(name) or "").startswith(EXPORT_HEAD)), None)

    @property
    def export(self) -> str:
        """The command that writes this file."""
        return export_command("postfix", self.config, self.exported or POSTFIX_FILE)

    def sidecar_words(self, key: str, *, chroot: bool | None) -> list[str]:
        """Return the words of a list of milters that name the sidecar."""
        return [word for word in self.words(key) if self.names_sidecar(word, chroot=chroot)]

    def names_sidecar(self, word: str, *, chroot: bool | None) -> bool:
        """Return True if a word of a list of milters names the sidecar."""
        return reaches(milter_address(word), self.listening, self.queue, chroot=chroot)

    @property
    def restrictions(self) -> str:
        """The list that controls relaying (postconf(5): either can)."""
        relay, recipient = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
        return relay if self.words(relay) or not self.words(recipient) else recipient

    @property
    def serves_external_hosts(self) -> bool:
        """True if this smtpd is not only for users that log in."""
        end = next((word for word in self.words(self.restrictions) if word in REJECTS), "")
        return end.endswith("_unauth_destination")

    @property
    def parents_match(self) -> bool:
        """True if a name in relay_domains includes all names below it."""
        return "relay_domains" in self.words("parent_domain_matches_subdomains")

    def domain_list(self, key: str) -> DomainList:
        """Return a list of domains. Those that end at this machine never include names below them (ADDRESS_CLASS_README)."""
        return DomainList(self.text(key), self.read, parents=key == "relay_domains" and self.parents_match)

    def milter_setting(self, name: str) -> tuple[str, str]:
        """Return where a setting for the sidecar is, and its value: in smtpd_milters, or in `milter_NAME`."""
        words = self.sidecar_words("smtpd_milters", chroot=None)
        own = dict(option for word in words for option in milter_options(word)).get(name)
        return (f"milter_{name}", self.text(f"milter_{name}")) if own is None else ("smtpd_milters", own)


def milter_options(word: str) -> Iterator[tuple[str, str]]:
    """Return the options of one milter in a list (postconf(5)): they override the milter_ settings."""
    for option in split(unbraced(word))[1:]:
        key, _, value = unbraced(option).partition("=")
        yield key.strip(), value.strip()
