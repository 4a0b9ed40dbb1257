"""Records in KumoMTA's shape, made of facts, the reasons of a verdict and a report. No I/O, no clock."""

from sidecar.core.records.build import (
    Facts,
    ForRecipient,
    Tls,
    bounce_response,
    mailbox,
    mailboxes,
    oob_bounces,
    receptions,
    rejection,
    rejections,
)
from sidecar.core.records.form import FORMS, UNPARSABLE, Form, form_of, reporting_domain
from sidecar.core.records.original import original_of
from sidecar.core.records.reading import TYPES, Logged, Messages, decode
from sidecar.core.records.record import UNCATEGORIZED, EnhancedCode, PeerAddress, Record, Response, encode, with_numbers

__all__ = [
    "FORMS",
    "TYPES",
    "UNCATEGORIZED",
    "UNPARSABLE",
    "EnhancedCode",
    "Facts",
    "ForRecipient",
    "Form",
    "Logged",
    "Messages",
    "PeerAddress",
    "Record",
    "Response",
    "Tls",
    "bounce_response",
    "decode",
    "encode",
    "form_of",
    "mailbox",
    "mailboxes",
    "oob_bounces",
    "original_of",
    "receptions",
    "rejection",
    "rejections",
    "reporting_domain",
    "with_numbers",
]
