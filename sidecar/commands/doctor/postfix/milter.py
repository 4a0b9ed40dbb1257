"""The milter lines: Postfix asks the sidecar once, waits for it, and follows its verdict.

Owns the findings about milters, their sockets and their timeouts.
"""

import re
from collections.abc import Iterator

from sidecar.commands.doctor.findings import PATIENCE, Found, seconds
from sidecar.commands.doctor.postfix.smtpd import WHILE_DOWN, Smtpd
from sidecar.commands.doctor.relaying import global_relay_hosts
from sidecar.commands.doctor.sockets import below_queue, in_main_cf, milter_address, out_of_reach
from sidecar.core.text import printable

_MILTER_VERSION, _LEAST_MILTER_VERSION = 6, 4


def invalid_milters(smtpd: Smtpd) -> Iterator[Found]:
    """Find addresses that end smtpd: a port that begins with a digit and is no number, such as OpenDKIM's `port@host`."""
    for key in ("smtpd_milters", "non_smtpd_milters"):
        for address in dict.fromkeys(map(milter_address, smtpd.words(key))):
            kind, _, rest = address.partition(":")
            port = rest.rpartition(":")[2]
            if kind != "inet" or port.isdecimal() or not ("@" in port or port[:1].isdigit()):
                continue
            program = "smtpd" if key == "smtpd_milters" else "cleanup"
            text = f"{program} ends with a fatal error at {printable(address)}: after inet: Postfix expects HOST:PORT."
            fix = f"In {key}, write inet:HOST:PORT instead."
            if found := re.fullmatch(r"inet:(\w+)@\[?([\w.:-]+?)\]?", address):
                host = f"[{found[2]}]" if ":" in found[2] else found[2]
                fix = f"In {key}, write inet:{host}:{found[1]} instead: PORT@HOST is the spelling of OpenDKIM and Sendmail."
            yield "error", "invalid_milter", key, text, fix


def milter(smtpd: Smtpd) -> Iterator[Found]:
    """Find an smtpd that does not ask the sidecar, or asks it twice."""
    key, chroot = "smtpd_milters", smtpd.chroot
    words = smtpd.words(key)
    address = in_main_cf(smtpd.listening, smtpd.queue)
    if asked := smtpd.sidecar_words(key, chroot=chroot):
        if len(asked) > 1:
            text = "smtpd_milters names the sidecar twice: Postfix asks it twice about each message, and each has two records."
            yield "error", "asked_twice", key, text, f"Leave only one of them: {address}."
    elif chroot and smtpd.sidecar_words(key, chroot=False):
        yield "error", "socket_unreachable", key, *out_of_reach(smtpd.listening, smtpd.queue)
    else:
        named = printable(", ".join(map(milter_address, words))) or "no milter"
        text = f"smtpd_milters names {named}, and the sidecar listens on {smtpd.listening}: Postfix never asks the sidecar."
        fix = f"Begin {key} with {address}." if words else f"Write {key} = {address}."
        if words and key in smtpd.overridden:
            fix = f"In master.cf, begin -o {key} of {printable(smtpd.name)} with {address}."
        yield "error" if smtpd.serves_external_hosts else "warning", "milter_missing", key, text, fix


def signing_order(smtpd: Smtpd) -> Iterator[Found]:
    """Find filters that are asked before a sidecar that adds header fields: a DKIM signature of theirs does not cover these."""
    key, sign = "smtpd_milters", smtpd.sidecar.sign
    words = smtpd.words(key)
    place = next((number for number, word in enumerate(words) if smtpd.names_sidecar(word, chroot=smtpd.chroot)), 0)
    if sign is None or not (sign.header or sign.cfbl_address) or place == 0:
        return
    before = printable(", ".join(map(milter_address, words[:place])))
    text = f"Postfix asks {before} before the sidecar: a DKIM signature made there does not cover the fields that [sign] adds."
    yield "warning", "signed_too_late", key, text, f"Begin {key} with {in_main_cf(smtpd.listening, smtpd.queue)}."


def reinjected(smtpd: Smtpd) -> Iterator[Found]:
    """Find an smtpd that gets mail back from a content filter, and asks the sidecar again."""
    if not smtpd.text("content_filter"):
        return
    key = "receive_override_options"
    for other in smtpd.others:
        returns = other.loopback or ("content_filter" in other.overridden and not other.text("content_filter"))
        asks = any(smtpd.names_sidecar(word, chroot=other.chroot) for word in other.words("smtpd_milters"))
        if other.name == smtpd.name or not returns or not asks or "no_milters" in other.words(key):
            continue
        name = printable(other.name)
        text = f"The content filter returns mail to {name}, which asks the sidecar again"
        fix = f"In master.cf, add -o smtpd_milters= to {name}, or no_milters to its {key}."
        if "127.0.0.1" in global_relay_hosts(smtpd.sidecar):
            yield "warning", "asked_twice", key, f"{text}: each message has two records.", fix
        else:
            yield "error", "asked_twice", key, f"{text}. The filter is no relay host: the sidecar rejects its mail.", fix


def bypassed(smtpd: Smtpd) -> Iterator[Found]:
    """Find settings with which the sidecar is not asked about some mail."""
    if smtpd.text(key := "smtpd_proxy_filter"):
        text = "With a filter before the queue the sidecar gets no content, and accepts each message that passed RCPT."
        yield "error", "before_queue_filter", key, text, "Remove it, and filter after the queue (content_filter)."
    if "no_milters" in smtpd.words(key := "receive_override_options"):
        yield "error", "milter_bypassed", key, "no_milters means that Postfix never asks the sidecar.", "Remove no_milters."


def default_action(smtpd: Smtpd) -> Iterator[Found]:
    """Find an action with which mail is accepted or lost while the sidecar is down."""
    where, action = smtpd.milter_setting("default_action")
    if (effect := WHILE_DOWN.get(action)) is None:
        return
    fix = f"Write {where} = tempfail."
    if where == "smtpd_milters":
        fix = f"In smtpd_milters, write default_action=tempfail instead of {action}."
    elif len(smtpd.words("smtpd_milters")) > 1:
        # The other milters can keep their action.
        fix = f"In smtpd_milters, write {{ {in_main_cf(smtpd.listening, smtpd.queue)}, default_action=tempfail }}."
    text = f"{action} is not safe: while the sidecar is down, {effect}."
    yield "error", "unsafe_default_action", where, text, fix


def protocol(smtpd: Smtpd) -> Iterator[Found]:
    """Find an old version of the protocol."""
    key, value = smtpd.milter_setting("protocol")
    version = int(value[0]) if value[:1].isdigit() else _MILTER_VERSION
    if version < _LEAST_MILTER_VERSION:
        text = f"Version {version} of the milter protocol lacks facts that the sidecar needs: it answers 451 to everything."
        yield "error", "old_milter_protocol", key, text, "Write milter_protocol = 6."
    elif version < _MILTER_VERSION:
        text = f"With version {version} of the milter protocol Postfix sends the sidecar the whole body of each message."
        yield "warning", "old_milter_protocol", key, text, "Write milter_protocol = 6."


def socket_rights(smtpd: Smtpd) -> Iterator[Found]:
    """Find a UNIX socket that smtpd cannot reach or open."""
    milter, key = smtpd.sidecar.milter, "smtpd_milters"
    if not milter.socket.startswith("unix:"):
        return
    if smtpd.chroot is None and below_queue(milter.socket, smtpd.queue) is None:
        text, fix = out_of_reach(milter.socket, smtpd.queue)
        yield "warning", "socket_unreachable", key, f"If smtpd is chrooted, as on Debian: {text}", fix
    by_group = milter.socket_group == "postfix" and milter.socket_mode & 0o020
    if not (milter.socket_mode & 0o002 or milter.socket_owner == "postfix" or by_group):
        text = f"{milter.socket} has mode {milter.socket_mode:04o}, and user postfix is probably not in its group."
        fix = 'In sidecar.toml, write socket_group = "postfix" and socket_mode = "0660" below [milter].'
        yield "warning", "socket_permissions", key, text, fix


def timeouts(smtpd: Smtpd) -> Iterator[Found]:
    """Find times that are too short for a busy disk."""
    for step in ("connect", "command", "content"):
        key, value = smtpd.milter_setting(name := f"{step}_timeout")
        if (time := seconds(value)) is not None and time < PATIENCE:
            text = f"Postfix waits {time} s for an answer of the sidecar, which can take longer if its disk is busy."
            fix = f"In smtpd_milters, write {name}=30s or more." if key == "smtpd_milters" else f"Write {key} = 30s or more."
            yield "warning", "short_timeout", key, text, fix


def local_mail(smtpd: Smtpd) -> Iterator[Found]:
    """Find a sidecar that is asked about mail of this machine, which has no SMTP session."""
    if not smtpd.sidecar_words(key := "non_smtpd_milters", chroot=None):
        return
    fix = f"Remove the sidecar from {key}."
    if "127.0.0.1" in global_relay_hosts(smtpd.sidecar):
        text = "Postfix also asks the sidecar about mail made on this machine, for which it has no rules."
        yield "warning", "local_mail", key, text, fix
    else:
        text = (
            "Postfix also asks the sidecar about mail made on this machine, as mail from 127.0.0.1, no relay host: "
            "the sidecar rejects the mail, and it stays in the maildrop queue."
        )
        yield "error", "local_mail", key, text, fix
