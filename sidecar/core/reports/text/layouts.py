"""The layouts of bounces that programs write as text, from the most certain to the least.

Owns their order. Never reads a message.
"""

from sidecar.core.reports.text.layout import Layout, pattern
from sidecar.core.reports.text.mtas import MTAS
from sidecar.core.reports.text.phrases import PhraseIndex
from sidecar.core.reports.text.providers import PROVIDERS

FORMATS = {
    "status": "the fields of a delivery status in a text, or in a part of a part",
    "general": "an automatic mailer's text in no known layout that names a failed address",
    "statusless": "a bounce report with another text in place of its status part; the recipient is not named",
}
"""The formats that are no layout, each with what it is."""

# `<user@example.com>:` alone in its line.
_LINE_ALONE = pattern(rb"<([^<>\n]{1,512})>:[ \t\r]{0,8}\Z")

LAYOUTS = (
    *PROVIDERS,
    *MTAS,
    Layout(
        "exim",
        "Exim, recipients without an address",
        (b"this is a permanent error. the following address(es) failed:",),
        needs=(b"this message was created automatically by mail delivery software",),
        certain=True,
    ),
    Layout(
        "qmail",
        "qmail in other words",
        (b">:",),
        _LINE_ALONE,
        here=True,
        needs=(b"- below this line is a copy of the message",),
        by_mailer=True,
    ),
    Layout("general", "a mailer that names recipients as qmail does", (b">:",), _LINE_ALONE, here=True, by_mailer=True),
)

INDEX = PhraseIndex((phrase, layout) for layout in LAYOUTS for phrase in layout.phrases)
"""The phrases of the layouts, in the same order."""
