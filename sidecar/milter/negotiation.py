"""What is asked of an MTA at the start of a milter connection: steps, replies, actions and macros.

Owns the negotiation. Never looks at mail.
"""

import milter
from msgspec import Struct

from sidecar.milter.context import Context

# Steps that are never answered: each saves a round trip for each message, and no verdict is due there. libmilter answers in
# our place where the MTA wants an answer all the same (protocol versions before 6), so this holds with every MTA.
_UNANSWERED = milter.P_NR_HELO | milter.P_NR_MAIL | milter.P_NR_HDR
# Unknown SMTP commands are none of our business. P_HDR_LEADSPC keeps the first space of a header field's value, without which
# Sendmail strips all of them and the bytes could not be put together again.
_WANTED_IF_OFFERED = milter.P_NOUNKNOWN | milter.P_SKIP | milter.P_HDR_LEADSPC
# Version 4 of the protocol brought both the DATA step and this flag, so an MTA that offers the one has the other.
_DATA_STEP = milter.P_NODATA

_ACTIONS = milter.DELRCPT | milter.SETSYMLIST

# Where each macro is needed; Postfix sends `{daemon_port}` only when asked, and its queue id from the second RCPT on.
_MACROS = {
    milter.M_CONNECT: "{daemon_addr} {daemon_port} {if_addr}",
    milter.M_ENVFROM: "i {auth_authen}",
    milter.M_ENVRCPT: "i",
    milter.M_DATA: "i",
    milter.M_EOM: "i",
}


class Terms(Struct, frozen=True, kw_only=True):
    """What was agreed.

    Whether the MTA understands SKIP, whether it takes recipients off, and whether it tells enough for a message to be judged
    at all. `shortcomings` are sentences for the log: what this MTA does not offer, and what follows from it.
    """

    skip: bool
    take_off: bool
    usable: bool
    shortcomings: tuple[str, ...]


def agree(context: Context, offer: list[int]) -> Terms:
    """Answer the MTA's offer in place (libmilter's actions, steps, and two reserved numbers) and say what was agreed."""
    actions, steps = offer[0], offer[1]
    offer[:] = [actions & _ACTIONS, _UNANSWERED | steps & _WANTED_IF_OFFERED, 0, 0]
    if actions & milter.SETSYMLIST:
        for stage, names in _MACROS.items():
            context.setsymlist(stage, names)
    return Terms(
        skip=bool(steps & milter.P_SKIP),
        take_off=bool(actions & milter.DELRCPT),
        usable=bool(steps & _DATA_STEP),
        shortcomings=tuple(_shortcomings(actions, steps)),
    )


def _shortcomings(actions: int, steps: int) -> list[str]:
    found = []
    if not steps & _DATA_STEP:
        found.append("the MTA's milter protocol is older than version 4: everything is answered 451 until it speaks version 6")
    if not actions & milter.DELRCPT:
        found.append("the MTA lets no recipient be taken off: a message that needs it is answered 451")
    if not steps & milter.P_SKIP:
        found.append("the MTA cannot skip the rest of a body: it is sent to the end")
    if not actions & milter.SETSYMLIST:
        found.append(
            "the MTA cannot be asked for macros: let it send {daemon_addr} and {daemon_port} at connect by its own settings"
        )
    return found
