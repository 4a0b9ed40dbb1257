"""Whether a record of a report has all that a sender needs of it, and which host reported. Format drift shows in both.

Owns what counts as lost. Never compares anything.
"""

from collections.abc import Mapping
from typing import Final, Literal

from sidecar.core.names import normal_domain
from sidecar.core.records.reading import Logged
from sidecar.core.records.record import Record

Form = Literal["complete", "lost", "derived", "unparsable"]
"""`lost`: a value that a sender needs is missing; `derived`: none is, but some are derived; `unparsable`: see UNPARSABLE."""

FORMS: Final[tuple[Form, ...]] = ("complete", "lost", "derived", "unparsable")
UNPARSABLE: Final = "unparsable"
"""`meta.read_as` of a message that claims to be a report and cannot be read as one."""

# Names like `co.uk` and `com.br` have one label more than others. A list of all public suffixes would need updates.
_SHORT = 3
_COUNTRY = 2
_NAME_LIMIT = 255


def form_of(record: Record | Logged) -> Form | None:
    """Return the form of the report behind a record, or None if the record is of no report, or of one without a failure."""
    if record.meta.get("read_as") == UNPARSABLE:
        return "unparsable"
    if record.type == "OOB":
        has_reply = record.response.enhanced_code is not None or record.response.content
        lost = not (record.recipient and has_reply and record.peer_address is not None and record.peer_address.name)
    elif record.type == "Feedback":
        lost = not all(map(_fields(record).get, ("user_agent", "version", "original_rcpto_to", "arrival_date")))
    else:
        return None
    return "lost" if lost else "derived" if record.meta.get("derived") else "complete"


def reporting_domain(record: Record | Logged) -> str:
    """Return the domain of the host that reported: of Reporting-MTA in an OOB record, of HELO in others; `""` without one.

    A provider has many hosts: of `mx7.mail.example.com` it is `example.com`.
    """
    name = "" if record.peer_address is None else record.peer_address.name[:_NAME_LIMIT]
    labels = (normal_domain(name) or "").split(".")
    is_country = len(labels) > _COUNTRY and len(labels[-1]) == _COUNTRY and len(labels[-2]) <= _SHORT
    return "" if labels[-1].isdecimal() or name.startswith("[") else ".".join(labels[-3 if is_country else -2 :])


def _fields(record: Record | Logged) -> Mapping[str, object]:
    report = record.feedback_report
    if report is None or isinstance(report, Mapping):
        return report or {}
    return {name: getattr(report, name) for name in report.__struct_fields__}
