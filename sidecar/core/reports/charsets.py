"""The charsets of reports: their names, and texts in them -> UTF-8.

Owns which codecs an external host can choose. Never decodes a transfer encoding.
"""

import re

# A list, because some of Python's codecs are quadratic (punycode) or make lone surrogates (unicode_escape), and a peer must not
# choose which module is imported.
_CHARSETS = frozenset(
    (
        *("utf-8", "us-ascii", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5"),
        *("euc-kr", "euc-jp", "shift_jis", "iso-2022-jp"),
        *(f"iso-8859-{part}" for part in (*range(1, 12), *range(13, 17))),
        *(f"windows-125{page}" for page in range(9)),
    )
)

# Other spellings of the same, as KumoMTA knows them.
_ALIASES = {"ascii": "us-ascii", "utf8": "utf-8", "latin1": "iso-8859-1"}
# More of the names that browsers know, of charsets that have a few more characters on Windows.
_MORE_ALIASES = {
    **dict.fromkeys(("shift-jis", "sjis", "x-sjis", "windows-31j", "ms_kanji"), "cp932"),
    **dict.fromkeys(("ks_c_5601-1987", "windows-949"), "cp949"),
    **dict.fromkeys(("gb_2312-80", "x-gbk"), "gbk"),
    "ansi_x3.4-1968": "us-ascii",
    "iso8859-1": "iso-8859-1",
    "x-euc-jp": "euc-jp",
    **{f"cp125{page}": f"windows-125{page}" for page in range(9)},
}

_CHARSET = re.compile(rb"charset\s{0,8}=\s{0,8}\"?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)
_IN_UTF_8 = frozenset(("utf-8", "us-ascii"))
# Texts of two bytes a character: what a program of Windows attaches.
_WIDE = re.compile(r"utf-?16(?:-?[lb]e)?|ucs-?2|unicode", re.IGNORECASE)
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


def charset_name(charset: str, *, strict: bool = False) -> str | None:
    """Return the name of the codec of a charset, or None if it is not one of the usual ones (strict: to KumoMTA)."""
    name = charset.lower()
    name = _ALIASES.get(name, name)
    return name if name in _CHARSETS else None if strict else _MORE_ALIASES.get(name)


def charset_of(content_type: bytes | None) -> str:
    """Return the charset that a Content-Type names, as it is written, or `""`."""
    found = _CHARSET.search(content_type or b"")
    return "" if found is None else found[1].decode()


def in_utf_8(text: bytes, content_type: bytes | None) -> bytes:
    """Return a text in UTF-8 that has the charset of its Content-Type, or begins with the mark of UTF-16."""
    charset = charset_of(content_type)
    if text.startswith(_WIDE_MARKS):
        return text.decode("utf-16", "replace").encode()
    if _WIDE.fullmatch(charset) and 0 in text[:2]:
        return text.decode("utf-16-be" if text[0] == 0 else "utf-16-le", "replace").encode()
    codec = charset_name(charset)
    return text if codec is None or codec in _IN_UTF_8 else text.decode(codec, "replace").encode("utf-8", "replace")
