"""The words in which programs say that they still try to deliver a message.

Owns these words. Never decides which message is a bounce.
"""

import re

from sidecar.core.reports.text.notice import BounceText
from sidecar.core.reports.text.phrases import Phrases

DELAYS = Phrases(
    *(b"this is a warning only", b"warning message only", b"will be retried", b"not yet been delivered", b"has been delayed"),
    *(b"delivery attempts will continue", b"temporary failure report", b"is delayed for more than"),
    *(b"this is just a warning", b"has been postponed", b"will continue to attempt", b"continue to try to deliver"),
    *(b"will keep trying", b"advisory-only", b"transient non-fatal errors", b"do not need to resend your message"),
    *(b"will be attempted again", b"not been delivered yet", b"will continue trying"),
    *(b"delivery is delayed", b"this is only a warning", b"nur eine warnung"),
    *(b"versucht es weiter", b"wird weiter versucht", b"could not be delivered for more than", b"still being retried"),
    *(b"you do not need to send it again", b"message still undelivered after", b"still in the queue"),
    *(b"nouvelles tentatives", b"seulement un avertissement", b"se seguira intentando", "se seguirá intentando".encode()),
    *(b"es solo un aviso", "continuará a tentar".encode(), b"apenas um aviso", b"solo un avviso", b"ulteriori tentativi"),
    *(b"slechts een waarschuwing", b"opnieuw geprobeerd", "tylko ostrzeżenie".encode(), "będzie próbował".encode()),
    *("только предупреждение".encode(), "попытки будут".encode(), "再送を試み".encode(), "これは警告です".encode()),
    *("只是警告".encode(), "继续尝试".encode()),
)
# A notice of failures can have a list of delays too.
_FINAL = Phrases(b"had permanent fatal errors", b"this is a permanent error", b"has been a permanent failure")
_GIVEN_UP = Phrases(
    *(b"giving up", b"given up", b"gave up", b"too long", b"expired", b"permanent failure", b"permanent error"),
)
_SUBJECT = re.compile(
    r"delay|could not send m|still being retried|not yet|retard|verz.{1,2}ger|retras|atras[oa]|ritard|vertraa|opóźni"
    r"|задерж|遅延|延迟",
    re.IGNORECASE,
)


def is_delay(text: BounceText, subject: str) -> bool:
    """Return True if a notice or its Subject says that delivery is only delayed."""
    if _FINAL.are_in(text):
        return False
    return _SUBJECT.search(subject) is not None or DELAYS.are_in(text)


def has_given_up(text: BounceText) -> bool:
    """Return True if a notice says that the program does not try any more, whatever the last reply was."""
    return _GIVEN_UP.are_in(text) or _FINAL.are_in(text)
