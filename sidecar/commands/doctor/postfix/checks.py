"""The checks of Postfix's settings.

Owns the list of checks, the most serious first.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import asdict

from sidecar.commands.doctor.findings import Check, Found, ReadFile, run_checks, seconds
from sidecar.commands.doctor.postfix.actions import access_actions, content_actions, recipient_bcc_maps
from sidecar.commands.doctor.postfix.milter import (
    bypassed,
    default_action,
    invalid_milters,
    local_mail,
    milter,
    protocol,
    reinjected,
    signing_order,
    socket_rights,
    timeouts,
)
from sidecar.commands.doctor.postfix.milter_maps import milter_maps
from sidecar.commands.doctor.postfix.recipients import closed_domains, unlisted_recipients, unverified_recipients
from sidecar.commands.doctor.postfix.relay_control import (
    authenticated,
    relay_domains,
    relay_restrictions,
    relaying_hosts,
    trusted_proxies,
)
from sidecar.commands.doctor.postfix.settings import read_postfix
from sidecar.commands.doctor.postfix.smtpd import Smtpd
from sidecar.core.findings import Finding
from sidecar.core.open_domains import OpenDomains
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LogMode

# The first version in which the default stops SMTP smuggling.
_NORMALIZES = (3, 9)


def check_postfix(text: str, settings: Settings, read: ReadFile, config: Path | None = None) -> list[Finding]:
    """Return all findings, errors first. A finding about some services only names them. `config` is the sidecar's file."""
    domains, services = OpenDomains(settings), read_postfix(text, read)
    public = [each for each in services if not each.loopback] or services
    made = [Smtpd(**asdict(each), sidecar=settings, config=config, domains=domains, others=services) for each in public]
    return run_checks(CHECKS, made)


def in_flow_delay(smtpd: Smtpd) -> Iterator[Found]:
    """Find a flow control that dropped reports slow down."""
    modes = ((entry, {entry.log_oob, entry.log_arf}) for entry in smtpd.sidecar.domains)
    dropping = next((entry for entry, found in modes if LogMode.LOG_THEN_DROP in found), None)
    if dropping is not None and seconds(smtpd.text(key := "in_flow_delay")) != 0:
        where = f"{dropping.path} ({dropping.where('')})"
        text = f"{where} drops reports. After some dozens of dropped reports every message waits for in_flow_delay."
        yield "warning", "slow_after_drops", key, text, f"Write {key} = 0s."


def bare_newline(smtpd: Smtpd) -> Iterator[Found]:
    """Find a Postfix that accepts hidden messages, by its setting or by the default of its version."""
    value = smtpd.text(key := "smtpd_forbid_bare_newline")
    version = re.match(r"(\d+)\.(\d+)", smtpd.text("mail_version"))
    if key not in smtpd.settings and version is not None and (int(version[1]), int(version[2])) >= _NORMALIZES:
        return
    if value == "no":
        text = "A relay host can relay an external host's message that is hidden inside another (SMTP smuggling)."
        yield "warning", "smtp_smuggling", key, text, f"Write {key} = normalize."


CHECKS: Sequence[Check[Smtpd]] = (
    invalid_milters,
    milter,
    bypassed,
    milter_maps,
    signing_order,
    reinjected,
    recipient_bcc_maps,
    content_actions,
    access_actions,
    default_action,
    relay_restrictions,
    relay_domains,
    relaying_hosts,
    trusted_proxies,
    authenticated,
    unlisted_recipients,
    unverified_recipients,
    closed_domains,
    local_mail,
    protocol,
    socket_rights,
    in_flow_delay,
    timeouts,
    bare_newline,
)
