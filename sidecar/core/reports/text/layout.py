"""What a layout of bounces is, and the usual ways to name a recipient.

Owns the patterns of addresses in lines of text. Never reads a message.
"""

import re
from typing import NamedTuple

_ADDRESS = rb"(?:\"[^\"\n]{1,64}\"|[^\s<>()\[\]:;,\"'|]{1,256})@[^\s<>()\[\]:;,\"'@]{1,255}"


def pattern(text: bytes) -> re.Pattern[bytes]:
    """Compile a pattern for one line. In it, `ADDRESS` is an address."""
    return re.compile(text.replace(b"ADDRESS", _ADDRESS), re.IGNORECASE)


# A line that begins with an address, perhaps after a bullet and in brackets: `  * <user@example.com>: text`.
LINE = pattern(rb"[ \t]{0,20}(?:[*-]{1,2}[ \t]{1,4})?[\"'<\[]{0,2}(?:mailto:|smtp:)?(ADDRESS)")
# The same with an indent of at most three blanks: more of them continue the text of the recipient before.
OUTER = pattern(rb" {0,3}[\"'<]{0,2}(ADDRESS)")
# `<user@example.com>: text` at the begin of a line.
COLON = pattern(rb"[ \t]?<([^<>\n]{1,512})>(?:[ \t]\([^)\n]{0,512}\)?)?(?:[ \t]?:|\Z)")


# The next address of a line that names several.
MORE = pattern(rb">?,[ \t]{0,2}<?(ADDRESS)(?=[>,.; \t\r]|\Z)")


class Layout(NamedTuple):
    """One layout of bounces.

    `format` is its permanent word, `program` who writes it. It begins with one of `phrases` (in lower case, single spaces).
    `recipient` is a pattern for a line that names a recipient; it is looked for behind the phrase. With `here` it can be in the
    phrase's own line, or in one before it. `needs` must be in the notice too, or in the X-Mailer. `certain`: the layout alone
    proves a failure, so that the recipient can be missing. `local`: a name without a domain is one at the domain of From.
    `reply_before`: the server's reply is in a line before the recipient's. `sender` must be in From, in lower case. With
    `by_mailer`, From must be an automatic mailer's. `as_reply`: the Subject can be `Re:` and that of the message.
    """

    format: str
    program: str
    phrases: tuple[bytes, ...]
    recipient: re.Pattern[bytes] = LINE
    here: bool = False
    needs: tuple[bytes, ...] = ()
    certain: bool = False
    local: re.Pattern[bytes] | None = None
    reply_before: bool = False
    sender: str = ""
    by_mailer: bool = False
    as_reply: bool = False
