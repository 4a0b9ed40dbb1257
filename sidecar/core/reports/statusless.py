"""A bounce report whose delivery-status part is missing -> OobReport, from the SMTP reply in its text.

Owns how such a reply looks. Never guesses who the recipient was: the address that the report was sent to can identify it.
"""

import re

from sidecar.core.reports import mime
from sidecar.core.reports.fields import VALUE_LIMIT, status
from sidecar.core.reports.values import Action, DiagnosticCode, OobReport, PerMessage, PerRecipient, ReportedRecipient

# The reply stands near the begin of the text; a returned message can follow.
_TEXT_LIMIT = 16 * 1024

# `550: 5.1.1 text` anywhere; `5.1.1 text` and `550 text` only at the begin of a line. Bounces have these codes: `500 people` is
# no reply.
_CODE = "(?:4[25]|5[2357])[0-9]"
_ENHANCED = r"[45]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])"
_REPLY = re.compile(
    rf"(?<![0-9.])({_CODE})[ :#-]{{1,4}}({_ENHANCED})[ :]{{0,3}}|^[ \t>(#]{{0,8}}(?:({_ENHANCED})|({_CODE}))[ :)-]{{1,3}}",
    re.MULTILINE,
)
_ACTIONS: dict[str, Action] = {"4": "delayed", "5": "failed"}


def read_statusless(parts: list[mime.Part], original_message: str | bytes | None) -> OobReport | None:
    """Return the report of one recipient that is not named, or None if no text has an SMTP reply of class 4 or 5."""
    part = next((part for part in parts if part.media_type == b"text/plain"), None)
    body = None if part is None else mime.transfer_decoded(part)
    text = (body or b"")[:_TEXT_LIMIT].decode("utf-8", "replace").replace("\r\n", "\n")
    found = _REPLY.search(text)
    if found is None:
        return None
    code, enhanced = found[1] or found[4], found[2] or found[3]
    # The reply ends with its paragraph.
    words = " ".join(text[found.end() :].partition("\n\n")[0].split())[:VALUE_LIMIT]
    codes = " ".join(filter(None, (code, enhanced)))
    return OobReport(
        per_message=PerMessage(extensions={}),
        per_recipient=[
            PerRecipient(
                final_recipient=ReportedRecipient(recipient_type="", recipient=""),
                action=_ACTIONS[(enhanced or code)[0]],
                status=None if enhanced is None else status(enhanced),
                diagnostic_code=DiagnosticCode(diagnostic_type="smtp", diagnostic=f"{codes} {words}"),
                extensions={},
            )
        ],
        original_message=original_message,
    )
