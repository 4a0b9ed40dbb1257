"""Postfix's settings, read from text: the output of `postconf` in any form, main.cf, master.cf, or one after the other.

Owns the syntax and the defaults (Postfix 3.7). Never checks a setting.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from sidecar.commands.doctor.findings import ReadFile, Service, logical_lines
from sidecar.core.open_domains import PARENT_MATCHES

_SETTING = re.compile(r"([A-Za-z0-9_]+)\s*=\s*(.*)", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\}|\(([A-Za-z0-9_]+)\))")
_SERVICE_FIELDS = 8
_LOOPBACK = ("127.", "localhost:", "[::1]", "::1:")

# Values refer to other values. No real configuration nests them deeper, and a circle must end.
_DEPTH = 8
_EXPANDED_LIMIT = 1 << 20

_EMPTY = (
    "body_checks canonical_maps content_filter header_checks non_smtpd_milters receive_override_options recipient_bcc_maps "
    "recipient_canonical_maps relay_domains relay_recipient_maps "
    "smtpd_authorized_xclient_hosts "
    "smtpd_client_restrictions smtpd_data_restrictions smtpd_end_of_data_restrictions smtpd_helo_restrictions "
    "smtpd_milter_maps smtpd_milters smtpd_proxy_filter smtpd_recipient_restrictions smtpd_sender_restrictions "
    "smtpd_upstream_proxy_protocol virtual_alias_maps virtual_mailbox_maps"
)

DEFAULTS: Final[Mapping[str, str]] = dict.fromkeys(_EMPTY.split(), "") | {
    "alias_maps": "hash:/etc/aliases, nis:mail.aliases",
    "in_flow_delay": "1s",
    "inet_interfaces": "all",
    "local_recipient_maps": "proxy:unix:passwd.byname $alias_maps",
    "milter_command_timeout": "30s",
    "milter_connect_timeout": "30s",
    "milter_content_timeout": "300s",
    "milter_default_action": "tempfail",
    "milter_protocol": "6",
    "mime_header_checks": "$header_checks",
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
    "nested_header_checks": "$header_checks",
    "parent_domain_matches_subdomains": f"{PARENT_MATCHES}, relay_domains",
    "queue_directory": "/var/spool/postfix",
    "smtpd_forbid_bare_newline": "no",
    "smtpd_reject_unlisted_recipient": "yes",
    "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
    "virtual_alias_domains": "$virtual_alias_maps",
    "virtual_mailbox_domains": "$virtual_mailbox_maps",
}
"""The defaults of all settings that are checked. The default of `mynetworks` depends on the machine."""


class Postfix(Service, frozen=True, kw_only=True):
    """The settings of one smtpd, including the `-o` options of its line in master.cf. `chroot` None is unknown.

    `loopback` is True if only this machine can reach it.
    """

    read: ReadFile
    chroot: bool | None = None
    loopback: bool = False
    settings: Mapping[str, str]

    def text(self, key: str) -> str:
        """Return a value with its references expanded, "" if it is not known. Unknown references stay as they are."""
        value = self._plain(key) or ""
        for _ in range(_DEPTH):
            expanded = _REFERENCE.sub(self._referred, value)
            if expanded == value or len(expanded) > _EXPANDED_LIMIT:
                break
            value = expanded
        return value.strip()

    def words(self, key: str) -> list[str]:
        """Return the words of a value."""
        return split(self.text(key))

    def _plain(self, key: str) -> str | None:
        return self.settings.get(key, DEFAULTS.get(key))

    def _referred(self, match: re.Match[str]) -> str:
        value = self._plain(match[1] or match[2] or match[3])
        return match[0] if value is None else value


def read_postfix(text: str, read: ReadFile) -> list[Postfix]:
    """Return the settings of each smtpd; without master.cf, of one without a name."""
    settings: dict[str, str] = {}
    lines: dict[str, int] = {}
    services: list[Postfix] = []
    for line, logical in main_cf_lines(text):
        if (match := _SETTING.fullmatch(logical)) is not None:
            settings[match[1]] = match[2].strip()
            lines[match[1]] = line
        elif (service := _service(line, logical, read)) is not None:
            services.append(service)
    used = services or [Postfix(read=read, settings={}, lines={})]
    return [replace(each, settings={**settings, **each.settings}, lines={**lines, **each.lines}) for each in used]


def split(value: str, separators: str = ", \t\r\n") -> list[str]:
    """Split a list at separators that are not in braces."""
    words, word, depth = [], "", 0
    for character in value:
        depth = max(0, depth + {"{": 1, "}": -1}.get(character, 0))
        if depth > 0 or character not in separators:
            word += character
        elif word:
            words.append(word)
            word = ""
    return [*words, word] if word else words


def unbraced(word: str) -> str:
    """Remove the braces around a word, if it has them."""
    return word[1:-1].strip() if word.startswith("{") and word.endswith("}") else word


def main_cf_lines(text: str) -> Iterator[tuple[int, str]]:
    """Return logical lines (postconf(5)): without comments and empty lines, which also end no line."""
    numbered = enumerate(text.splitlines(), start=1)
    return logical_lines((number, line) for number, line in numbered if line.strip() and not line.lstrip().startswith("#"))


def _service(line: int, logical: str, read: ReadFile) -> Postfix | None:
    """Return the service, with its own settings, if this is a line of master.cf(5) for an smtpd."""
    fields = [*logical.split(None, _SERVICE_FIELDS), ""]
    if len(fields) <= _SERVICE_FIELDS or fields[1] not in {"inet", "pass"} or fields[7] != "smtpd":
        return None
    settings = dict(_options(fields[_SERVICE_FIELDS]))
    return Postfix(
        name=fields[0],
        read=read,
        chroot=fields[4] == "y",
        loopback=fields[0].startswith(_LOOPBACK),
        settings=settings,
        lines=dict.fromkeys(settings, line),
        overridden=frozenset(settings),
    )


def _options(arguments: str) -> Iterator[tuple[str, str]]:
    """Return the settings after `-o`: `name=value` or `{ name = value }`, whose value can have braces too (master.cf(5))."""
    words = iter(split(arguments, " \t"))
    for word in words:
        if word.startswith("-o"):
            key, equals, value = unbraced(word.removeprefix("-o") or next(words, "")).partition("=")
            if equals:
                yield key.strip(), value.strip()
