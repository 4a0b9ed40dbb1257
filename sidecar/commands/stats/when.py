"""Parse a time that an operator types.

The grammar is small enough for `--help`, and each text has one meaning. A library for any date in any language also accepts
mistakes, and then answers for another day.
"""

import re
from datetime import UTC, datetime

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
# Six digits of days are 2,700 years.
_AGO = re.compile(r"(\d{1,6})([smhdw])(?: ago)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_DAY = _SECONDS["d"]
# The year 3000: no record is later.
_LAST = 32_503_680_000.0

EXAMPLES = "2026-11-22, 2026-11-22T08:30Z, today, yesterday, 90m or 7d"


def parse_when(text: str, now: float) -> float:
    """Return the time that `text` names, in seconds since 1970, as is `now`; from 1970 to 2999.

    `now`, `today` and `yesterday` (their midnight), an age (`90s`, `15m`, `1h`, `7d`, `2w`, with or without `ago`), a date (its
    midnight), or RFC 3339 with optional seconds and offset. The default offset is UTC. Raise ValueError with the fix.
    """
    word = " ".join(text.split())
    named = {"now": now, "today": now // _DAY * _DAY, "yesterday": (now // _DAY - 1) * _DAY}
    if word.lower() in named:
        return named[word.lower()]
    if found := _AGO.fullmatch(word.lower()):
        return max(0.0, now - int(found[1]) * _SECONDS[found[2]])
    if _DATE.fullmatch(word.upper()):
        return _instant(word.upper(), text)
    raise ValueError(f"{text!r} is no time; write one such as {EXAMPLES}")


def _instant(word: str, text: str) -> float:
    try:
        read = datetime.fromisoformat(word)
        instant = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        return min(max(0.0, instant), _LAST)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is a day or an hour that does not exist; write one such as {EXAMPLES}") from None
