"""The values of report fields as KumoMTA reads them (RFC 3464, RFC 5321, RFC 5322).

Each reader returns KumoMTA's value, or raises ValueError for a text that KumoMTA does not accept.
"""

import re
from datetime import date

from sidecar.core.reports.addresses import mailbox
from sidecar.core.reports.dates import MONTHS, full_year, read_date
from sidecar.core.reports.fields import COUNT_LIMIT, STATUS_LIMITS, number
from sidecar.core.reports.strict.headers import COMMENTS_LIMIT, WHITE, comment_end
from sidecar.core.reports.values import ACTIONS, Action, DiagnosticCode, DsnStatus, MtaName, ReportedRecipient

_S = f"[{WHITE}]"
# Possessive: a run of white space would be tried at each of its lengths.
_DATE = re.compile(
    rf"{_S}*+(?:([A-Za-z]{{3}}),)?{_S}*+([0-9]{{1,2}}){_S}++([A-Za-z]{{3}}){_S}++([0-9]{{2,4}}){_S}++"
    rf"([0-9]{{2}}){_S}*+:{_S}*+([0-9]{{2}})(?:{_S}*+:([0-9]{{2}}))?{_S}++([+-][0-9]{{2}}[0-5][0-9]|[A-Za-z]+)"
)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# The zones that can stand before a comment; others only at the end (RFC 5322 section 4.3).
_ZONE = re.compile("[+-].*|ut|gmt|[ecmp][sd]t|[a-ik-z]", re.IGNORECASE)


def action(text: str) -> Action:
    """Read one of the five words, in lower case and with nothing around it."""
    if text not in ACTIONS:
        raise ValueError(text)
    return ACTIONS[text]


def status(text: str) -> DsnStatus:
    """Read `5.1.1`, and the comment that can follow after a space."""
    numbers, space, comment = text.partition(" ")
    class_, subject, detail = map(count, numbers.split("."), STATUS_LIMITS)
    return DsnStatus(class_=class_, subject=subject, detail=detail, comment=comment if space else None)


def count(text: str, limit: int = COUNT_LIMIT) -> int:
    """Read a number up to a limit."""
    found = number(text, limit)
    if found is None:
        raise ValueError(text)
    return found


def mta_name(text: str) -> MtaName:
    """Read `dns; mx.example.com`; both can be empty."""
    mta_type, name = _typed(text)
    return MtaName(mta_type=mta_type.strip(WHITE), name=name)


def diagnostic_code(text: str) -> DiagnosticCode:
    """Read `smtp; 550 5.1.1 no such user`; the type stays as it was written."""
    diagnostic_type, diagnostic = _typed(text)
    return DiagnosticCode(diagnostic_type=diagnostic_type.strip(WHITE), diagnostic=diagnostic)


def recipient(text: str) -> ReportedRecipient:
    """Read `rfc822; user@example.com`. The address of another type, also of `RFC822`, can be any text."""
    recipient_type, name = _typed(text)
    return ReportedRecipient(
        recipient_type=recipient_type.strip(WHITE), recipient=mailbox(name) if recipient_type == "rfc822" else name
    )


def timestamp(text: str) -> str:
    """Return a date as RFC 3339 in UTC. The day of the week must be right.

    KumoMTA writes a leap second as `:60`; here it is `:59`, which every reader knows.
    """
    found = _DATE.match(text)
    if found is None or _ZONE.fullmatch(found[8]) is None or not _is_comments(text[found.end() :]):
        # KumoMTA tries once more: without comments, and with any word for a zone.
        found = _DATE.fullmatch(_without_comments(text))
        if found is None or not found[8].isalpha():
            raise ValueError(text)
    day_name, day, month, year, hour, minute, second, zone = found.groups()
    if day_name is not None:
        weekday = date(full_year(year), MONTHS.get(month.lower(), 0), int(day)).weekday()
        if _DAYS[weekday] != day_name.lower():
            raise ValueError(text)
    read = read_date(f"{day} {month} {year} {hour}:{minute}:{second or '00'} {zone}")
    if read is None:
        raise ValueError(text)
    return read


def _typed(text: str) -> tuple[str, str]:
    kind, semicolon, rest = text.partition(";")
    if not semicolon:
        raise ValueError(text)
    return kind, rest.strip(WHITE)


def _is_comments(text: str) -> bool:
    return not text or (text.endswith(")") and text.lstrip(WHITE).startswith("(") and not _without_comments(text))


def _without_comments(text: str) -> str:
    """Return the words of a text with one space between them, without comments.

    Raise ValueError if a comment does not end, or if there are too many.
    """
    if text.count("(") > COMMENTS_LIMIT:
        raise ValueError(text)
    kept: list[str] = []
    start, at = 0, text.find("(")
    while at >= 0:
        end = comment_end(text, at)
        if end is None:
            raise ValueError(text)
        kept.append(text[start:at])
        start, at = end, text.find("(", end)
    kept.append(text[start:])
    return " ".join(" ".join(kept).split())
