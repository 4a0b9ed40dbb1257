"""The policy's answers. Each carries its reasons: the rule, where it stands, and a sentence that says what it did."""

from typing import Any, Literal

from msgspec import Struct

from sidecar.core.settings.values import LogMode, Where

ReportKind = Literal["oob", "arf"]

# In one sentence: more reasons explain nothing.
_REASONS_LIMIT = 4


class Because(Struct, frozen=True, kw_only=True):
    """One reason. `file`, `line` and `key` are None for what no file says: a default, or a rule that is missing."""

    file: str | None = None
    line: int | None = None
    key: str | None = None
    value: Any = None
    text: str

    def __str__(self) -> str:
        return self.text if self.file is None else f"{self.text} ({self.file}:{self.line} {self.key})"


def because(text: str, where: Where | None, value: object = None) -> Because:
    """Make a reason of a sentence and the place of the rule behind it, if a file holds it."""
    if where is None:
        return Because(text=text, value=value)
    return Because(file=where.file, line=where.line, key=where.key, value=value, text=text)


class ConnectAnswer(Struct, frozen=True, kw_only=True):
    """What becomes of a peer at connect. `deferred`: whether it may send is only known when it names a recipient."""

    accept: bool
    deferred: bool
    because: tuple[Because, ...]


class RecipientAnswer(Struct, frozen=True, kw_only=True):
    """What becomes of one recipient. `relay` says whether a message that is no report may go on to it."""

    address: str
    domain: str
    relay: bool
    log_oob: LogMode
    log_arf: LogMode
    because: tuple[Because, ...]

    @property
    def accept(self) -> bool:
        """Tell whether the peer may name this recipient."""
        return self.relay or self.takes_reports

    @property
    def takes_reports(self) -> bool:
        """Tell whether it matters for this recipient what the message is."""
        return self.log_oob is not LogMode.IGNORE or self.log_arf is not LogMode.IGNORE


class RecipientFate(Struct, frozen=True, kw_only=True):
    """What becomes of a complete message for one recipient; `taken_as` names the report it was logged as."""

    address: str
    domain: str
    relayed: bool
    taken_as: ReportKind | None
    because: Because


class MessageAnswer(Struct, frozen=True, kw_only=True):
    """What becomes of a complete message. `reject` means: relayed to nobody, and a report for nobody."""

    fates: tuple[RecipientFate, ...]

    @property
    def action(self) -> Literal["accept", "discard", "reject"]:
        """Give the verdict on the message as a whole."""
        if any(fate.relayed for fate in self.fates):
            return "accept"
        return "discard" if self.taken_as is not None else "reject"

    @property
    def taken_as(self) -> ReportKind | None:
        """Give the report the message was logged as, for some recipient at least."""
        kinds = {fate.taken_as for fate in self.fates}
        return "arf" if "arf" in kinds else "oob" if "oob" in kinds else None


def sentence(answer: ConnectAnswer | RecipientAnswer | MessageAnswer) -> str:
    """Return the reasons of an answer as one sentence, each reason once."""
    if isinstance(answer, MessageAnswer):
        reasons = dict.fromkeys(str(fate.because) for fate in answer.fates)
    else:
        reasons = dict.fromkeys(map(str, answer.because))
    shown = list(reasons)[:_REASONS_LIMIT]
    more = [f"and {len(reasons) - len(shown)} more reasons"] if len(reasons) > len(shown) else []
    return "; ".join(shown + more)
