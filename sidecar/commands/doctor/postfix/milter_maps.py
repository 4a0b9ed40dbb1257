"""Tables that give some hosts other milters: the sidecar must still decide about all external hosts.

Owns the findings about smtpd_milter_maps. Its keys are complete addresses, or networks in a cidr table (postconf(5)).
"""

from collections import defaultdict
from collections.abc import Iterator

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.commands.doctor.findings import Found, some
from sidecar.commands.doctor.postfix.settings import split
from sidecar.commands.doctor.postfix.smtpd import WHILE_DOWN, Smtpd, milter_options
from sidecar.commands.doctor.postfix.tables import table_entries
from sidecar.commands.doctor.relaying import beyond, block, relay_hosts
from sidecar.commands.doctor.sockets import in_main_cf

_KEY = "smtpd_milter_maps"
_EVERYONE = ("0.0.0.0/0", "::/0")
_BYPASS = "bypass"


def milter_maps(smtpd: Smtpd) -> Iterator[Found]:
    """Find hosts about whose mail Postfix does not ask the sidecar, or decides alone while the sidecar is down."""
    hosts: defaultdict[str, list[netaddr.IPNetwork]] = defaultdict(list)
    unread = []
    for table in smtpd.words(_KEY):
        if (entries := table_entries(table, smtpd.read)) is None:
            unread.append(table)
            continue
        try:
            for key, value in entries:
                blocks = [block(one) for one in ([key] if key else _EVERYONE)]
                hosts[_effect(smtpd, value)] += blocks
        except (netaddr.AddrFormatError, ValueError):
            unread.append(table)  # a table of patterns, for example
    for effect, blocks in hosts.items():
        yield from _found(smtpd, effect, netaddr.IPSet(blocks))
    if unread:
        text = f"The doctor cannot read {some(unread)}: for the hosts in it, Postfix can use other milters or none."
        yield "warning", "unreadable_table", _KEY, text, "Check that it has only relay hosts."


def _effect(smtpd: Smtpd, value: str) -> str:
    """Return what a result of the table does: `_BYPASS`, or else the sidecar's default_action in it."""
    asked = [word for word in split(value) if smtpd.names_sidecar(word, chroot=smtpd.chroot)]
    if value.upper() == "DISABLE" or not asked:
        return _BYPASS
    return dict(milter_options(asked[0])).get("default_action", smtpd.text("milter_default_action"))


def _found(smtpd: Smtpd, effect: str, hosts: netaddr.IPSet) -> Iterator[Found]:
    external = beyond(hosts, relay_hosts(smtpd.sidecar))
    named = some(external or [str(each) for each in hosts.iter_cidrs()])
    if effect == _BYPASS and external:
        text = f"For the external hosts {named}, Postfix uses other milters or none, and does not ask the sidecar."
        yield "error", "milter_bypassed", _KEY, text, "Remove all hosts from its table that are not in relay_hosts."
    elif effect == _BYPASS:
        text = f"For the relay hosts {named}, Postfix does not ask the sidecar: there are no records of their mail."
        milter = f"{{ {in_main_cf(smtpd.listening, smtpd.queue)}, default_action=accept }}"
        yield "warning", "milter_bypassed", _KEY, text, f"Write {milter} in its table: their mail never waits for the sidecar."
    elif effect in WHILE_DOWN and (external or effect != "accept"):
        text = f"default_action={effect} is not safe for {named}: while the sidecar is down, {WHILE_DOWN[effect]}."
        fix = "In its table, write default_action=tempfail. For hosts in relay_hosts, default_action=accept is possible too."
        yield "error", "unsafe_default_action", _KEY, text, fix
