"""Removed recipients, however they are written: of a message to several recipients only those go on that the policy relays.

Owns the spellings, the configurations and the count. Never judges a reply.
"""

import random
import time

from msgspec import Struct

from tests.mta.client import EXTERNAL
from tests.mta.house import House, house
from tests.mta.mails import OOB, ORDINARY

DOMAINS = """\
["open.example"]
relay_to = true
["drop.example"]
log_oob = "LogThenDrop"
log_arf = "LogThenDrop"
["dröp.example"]
log_oob = "LogThenDrop"
log_arf = "LogThenDrop"
"""
SETTINGS = "[limits]\nreports_per_second = 1000000\nrejection_records_per_second = 1000000\nrecord_bytes_per_byte = 0\n"

# The argument of RCPT for a recipient that takes reports to be dropped. `{n}` makes each one new.
SPELLINGS = """\
<r{n}@drop.example>
r{n}@drop.example
<R{n}@DROP.EXAMPLE>
<"r{n}"@drop.example>
<"r {n}"@drop.example>
<"r\\"{n}"@drop.example>
<"r\\{n}"@drop.example>
<r\\{n}@drop.example>
<"r@{n}"@drop.example>
<"r.{n}."@drop.example>
<r.{n}.@drop.example>
<@open.example:r{n}@drop.example>
<@drop.example:r{n}@drop.example>
<@a.example,@b.example:r{n}@drop.example>
<r{n}@drop.example.>
<r+{n}@drop.example>
<r%{n}@drop.example>
<r!{n}@drop.example>
<r{n}@dröp.example>
<r{n}@DRÖP.example>
<r{n}@xn--drp-tna.example>
<rö{n}@drop.example>
<r{n}(comment)@drop.example>
< r{n} @ drop.example >
""".splitlines()

_ALIASES = "inline:{{ friend-alias@open.example = friend@open.example }}"
CONFIGURATIONS = {
    "default": {},
    "no rewriting": {"allow_percent_hack": "no", "swap_bangpath": "no", "resolve_dequoted_address": "no"},
    "delimiter": {"recipient_delimiter": "+-"},
    "percent as delimiter": {"recipient_delimiter": "%", "allow_percent_hack": "no"},
    "strict": {"strict_rfc821_envelopes": "yes"},
    "no SMTPUTF8": {"smtputf8_enable": "no"},
    "append_dot_mydomain": {"append_dot_mydomain": "yes", "append_at_myorigin": "yes"},
    "local domains": {"mydestination": "drop.example, open.example, mx.example, localhost"},
    "no original recipient": {"enable_original_recipient": "no"},
    "aliases": {"virtual_alias_maps": _ALIASES, "canonical_maps": _ALIASES, "recipient_canonical_maps": _ALIASES},
}


class Removed(Struct, kw_only=True):
    """How many messages were accepted, of which so many had removed recipients, and each delivery against the policy."""

    messages: int = 0
    accepted: int = 0
    removed: int = 0
    wrong: list[str]


def attack(name: str, rounds: int, *, seed: int, engine: str = "direct", seconds: float = 600) -> Removed:
    """Send messages with each spelling, so many rounds or for `seconds`, through a Postfix of that configuration."""
    source = random.Random(f"{seed} {name}")  # noqa: S311 - repeatable
    found = Removed(wrong=[])
    with house(domains=DOMAINS, settings=SETTINGS, engine=engine, postfix=CONFIGURATIONS[name]) as home:
        began = time.monotonic()
        for number in range(rounds):
            if time.monotonic() > began + seconds:
                break
            friends: set[str] = set()
            for spelling in source.sample(SPELLINGS, k=len(SPELLINGS)):
                _message(home, spelling, f"{number}x{found.messages}", friends, source, found)
            delivered = set(home.delivered())
            found.wrong += [f"{name}: delivered to {one}" for one in sorted(delivered - friends)]
            found.wrong += [f"{name}: not delivered to {one}" for one in sorted(friends - delivered)]
    return found


def _message(home: House, spelling: str, mark: str, friends: set[str], source: random.Random, found: Removed) -> None:
    """Send one message to a friend and to recipients of this and of other spellings, in some order."""
    friend = f"friend{mark}@open.example"
    others = source.sample(SPELLINGS, k=source.randrange(3))
    # The same mailbox written twice is one recipient for Postfix, but two for the sidecar.
    drops = [one.replace("{n}", mark) for one in (spelling, *others)]
    arguments = [*drops, f"<{friend}>"]
    source.shuffle(arguments)
    with home.connect(EXTERNAL) as connection:
        connection.say("MAIL FROM:<>")
        accepted = []
        for argument in arguments:
            connection.write(f"RCPT TO:{argument}\r\n".encode())
            if connection.reply().code == 250:
                accepted.append(argument)
        found.messages += 1
        if f"<{friend}>" in accepted and connection.content(source.choice((OOB, ORDINARY))).code == 250:
            friends.add(friend)
            found.accepted += 1
            found.removed += len(accepted) - 1
