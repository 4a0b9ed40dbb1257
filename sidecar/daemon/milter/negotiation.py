"""The negotiation with an MTA at the start of a milter connection: steps, replies, actions and macros.

Owns the answer to the MTA's offer. Never reads mail.
"""

from enum import Enum, auto
from functools import lru_cache, reduce
from operator import or_
from typing import Final

from msgspec import Struct

from sidecar.core.settings.proof import SignSettings
from sidecar.daemon.milter.context import Context

# Actions, steps and stages of the protocol, with libmilter's names (mfapi.h, mfdef.h).
ADDHDRS: Final = 0x1
DELRCPT: Final = 0x8
CHGFROM: Final = 0x40
SETSYMLIST: Final = 0x100
P_NR_HDR: Final = 0x80
P_NOUNKNOWN: Final = 0x100
P_NR_CONN: Final = 0x1000
P_NR_HELO: Final = 0x2000
P_NR_MAIL: Final = 0x4000
P_NR_RCPT: Final = 0x8000
P_NR_DATA: Final = 0x10000
P_NR_EOH: Final = 0x40000
P_NR_BODY: Final = 0x80000
P_HDR_LEADSPC: Final = 0x100000
M_CONNECT, M_HELO, M_ENVFROM, M_ENVRCPT, M_DATA, M_EOM = range(6)


class Step(Enum):
    """A step of the milter protocol."""

    CONNECT = auto()
    HELO = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    HEADER = auto()
    END_OF_HEADERS = auto()
    BODY = auto()
    END_OF_MESSAGE = auto()
    ABORT = auto()
    CLOSE = auto()

    # Enum hashes the name, in Python; a member is itself.
    __hash__ = object.__hash__


# Steps without an answer: each saves a round trip for each message, and no verdict is given there. If an MTA needs an answer
# (protocol versions before 6), the engine gives it.
_NO_REPLY = {
    Step.HELO: P_NR_HELO,
    Step.MAIL: P_NR_MAIL,
    Step.HEADER: P_NR_HDR,
    Step.BODY: P_NR_BODY,
}
# The protocol has no answer to these.
_NEVER_ANSWERED = frozenset({Step.ABORT, Step.CLOSE})
# Unknown SMTP commands are left to the MTA. P_HDR_LEADSPC keeps the first space of a header field's value: without it Sendmail
# strips all of them, and the original bytes are lost.
_WANTED_IF_OFFERED = P_NOUNKNOWN | P_HDR_LEADSPC
_ALL_NO_REPLY = reduce(or_, _NO_REPLY.values())
# Likewise, if the settings permit no verdict there.
_MAYBE_NO_REPLY = {Step.CONNECT: P_NR_CONN, Step.DATA: P_NR_DATA}

_ACTIONS = DELRCPT | SETSYMLIST

# Where each macro is needed; Postfix sends `{daemon_port}` only when asked, and its queue id from the second RCPT on.
_MACROS = {
    M_CONNECT: "{daemon_addr} {daemon_port} {if_addr}",
    # After STARTTLS the client has to say EHLO again (RFC 3207 section 4.2).
    M_HELO: "{tls_version} {cipher} {cert_subject} {verify}",
    M_ENVFROM: "i {auth_authen}",
    M_ENVRCPT: "i",
    M_DATA: "i",
    M_EOM: "i",
}
# An MTA that cannot be asked for macros can send its name.
_BARE_NAMES = {"daemon_name"} | {name.strip("{}") for names in _MACROS.values() for name in names.split()}
MACRO_KEYS = {spelling.encode(): name.encode() for name in _BARE_NAMES for spelling in (name, f"{{{name}}}")}
"""The macros that are read, by each spelling of their names: some MTAs leave the braces out."""

CANNOT_DISCARD = frozenset({"maddy"})
"""MTAs that do not discard, by their `{daemon_name}`: the protocol has no bit for that."""


class Terms(Struct, frozen=True, kw_only=True):
    """What was agreed.

    Which steps are not answered, and whether the MTA removes recipients, discards messages, adds header fields and changes the
    envelope sender. With `keeps_space` it writes no space between the colon and the value of a field. `shortcomings` are
    sentences for the log: what this MTA does not offer, and what follows.
    """

    unanswered: frozenset[Step]
    can_remove: bool
    can_discard: bool = True
    can_add: bool = False
    can_change_sender: bool = False
    keeps_space: bool = False
    shortcomings: tuple[str, ...]


def unanswered(*, answers_connect: bool, answers_data: bool) -> frozenset[Step]:
    """Return the steps without an answer: CONNECT if no peer can be rejected, DATA if no message can be accepted there."""
    answers = {Step.CONNECT: answers_connect, Step.DATA: answers_data}
    return frozenset(_NO_REPLY) | _NEVER_ANSWERED | {step for step, answered in answers.items() if not answered}


def signing_actions(settings: SignSettings | None) -> int:
    """Return the actions that signing needs: none without it, so that MTAs do not prepare for them."""
    if settings is None:
        return 0
    adds = ADDHDRS if settings.header or settings.cfbl_address is not None else 0
    return adds | (CHGFROM if settings.address else 0)


def agree(context: Context, offer: list[int], silent: frozenset[Step], signing: int = 0) -> Terms:
    """Answer the MTA's offer in place (libmilter's actions, steps, and two reserved numbers). Return what was agreed.

    `silent` are the steps without an answer, `signing` the actions that are needed to sign mail.
    """
    actions, steps = offer[0], offer[1]
    terms, wanted = _answer(actions, steps, silent, signing)
    offer[:] = wanted
    if actions & SETSYMLIST:
        for stage, names in _MACROS.items():
            context.setsymlist(stage, names)
    return terms


@lru_cache(maxsize=64)  # an MTA offers the same for each of its connections
def _answer(actions: int, steps: int, silent: frozenset[Step], signing: int) -> tuple[Terms, tuple[int, int, int, int]]:
    agreed = actions & (_ACTIONS | signing)
    terms = Terms(
        unanswered=silent,
        can_remove=bool(agreed & DELRCPT),
        can_add=bool(agreed & ADDHDRS),
        can_change_sender=bool(agreed & CHGFROM),
        keeps_space=bool(steps & P_HDR_LEADSPC),
        shortcomings=tuple(_shortcomings(actions, signing)),
    )
    return terms, (agreed, steps & _WANTED_IF_OFFERED | no_reply(silent), 0, 0)


def no_reply(silent: frozenset[Step]) -> int:
    """Return the protocol's flags for the steps without an answer."""
    return reduce(or_, (flag for step, flag in _MAYBE_NO_REPLY.items() if step in silent), _ALL_NO_REPLY)


def _shortcomings(actions: int, signing: int) -> list[str]:
    found = []
    # Mail without a proof is better than mail that waits: only its reports cannot be verified.
    if signing & ADDHDRS & ~actions:
        found.append("the MTA cannot add header fields (SMFIF_ADDHDRS): mail is relayed without those of [sign]")
    if signing & CHGFROM & ~actions:
        found.append("the MTA cannot change the envelope sender (SMFIF_CHGFROM): mail is relayed without the token of [sign]")
    if not actions & DELRCPT:
        found.append("the MTA cannot remove recipients (SMFIF_DELRCPT): a message that needs it is answered 451")
    if not actions & SETSYMLIST:
        found.append(
            "the MTA cannot be asked for macros (SMFIF_SETSYMLIST):"
            " let it send {daemon_addr} and {daemon_port} at connect by its own settings"
        )
    return found
