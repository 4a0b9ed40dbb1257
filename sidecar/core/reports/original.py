"""The returned message of a report, as records have it.

Never reads what its fields say.
"""

from codecs import getincrementaldecoder
from functools import lru_cache

from sidecar.core.reports.fields import Block, blocks

# A larger message is decoded in pieces of this size.
_PIECE = 64 * 1024
HEAD_LIMIT = 64 * 1024
"""Of a header section. Postfix cuts it at 100 kB; the fields of interest are far before that."""


def original_text(original: bytes) -> str | bytes:
    """Return a returned message as text with LF line ends, or as bytes with LF line ends if it is not UTF-8, as KumoMTA."""
    # In pieces, which end with a line if possible: other threads run between them, and of 10 MB each step takes up to 0.1 s.
    decoder, texts, start = getincrementaldecoder("utf-8")(), [], 0
    try:
        while start < len(original):
            end = original.rfind(b"\n", start, start + _PIECE) + 1 or start + _PIECE
            if original[end - 1 : end + 1] == b"\r\n":
                end += 1
            text = decoder.decode(original[start:end].replace(b"\r\n", b"\n"), end >= len(original))
            if not text.isascii() and len(text.encode("utf-16-le")) > 2 * len(text):
                # Beyond U+FFFF each character takes four bytes, in the pieces and in the whole: too much memory.
                return original.replace(b"\r\n", b"\n").decode()
            texts.append(text)
            start = end
    except UnicodeDecodeError:
        return original.replace(b"\r\n", b"\n")
    return "".join(texts)


def head_of(message: str | bytes) -> bytes:
    """Return the header section of a message with LF line ends; of a large one the first 64 kB."""
    start = message[:HEAD_LIMIT]
    octets = start.encode("utf-8", "replace") if isinstance(start, str) else start
    return octets.lstrip(b"\n").partition(b"\n\n")[0]


def header_fields(message: str | bytes) -> Block:
    """Return the fields of a returned message or header section, as far as `head_of` has them."""
    return _fields(head_of(message))


@lru_cache(maxsize=1)  # the values of a report and its records are read from the same section, one after the other
def _fields(head: bytes) -> Block:
    return blocks(head)[0]
