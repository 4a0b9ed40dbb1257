"""The Content-Type and the Content-Transfer-Encoding of a part as KumoMTA reads them (RFC 2045, RFC 2231).

Owns their grammar: one byte that does not fit, such as a `;` at the end, and the field has no value at all.
"""

import re
from typing import Final, NamedTuple

from sidecar.core.reports.addresses import wide_set
from sidecar.core.reports.charsets import charset_name
from sidecar.core.reports.strict.headers import COMMENTS_LIMIT, CONTROL, ENCODED_WORD, FOLD, PAIR, comment_end, decoded_word

# Bytes and parameters; the limits of mime.py for the same.
_SIZE_LIMIT = 64 * 1024
_PARAMETER_LIMIT = 128

# No byte of this text can be in a field. It stands for bytes that are not UTF-8, and for too many comments.
_FITS_NOWHERE = "\0"

_FOLD = re.compile(FOLD)
_TOKEN: Final = re.compile(wide_set(r"!#$%&'*+\-.0-9A-Z^_`a-z{|}~") + "+")
_ATTRIBUTE = re.compile(r"[!#$&+\-.0-9A-Z^_`a-z{|}~]+")
_EXTENDED = re.compile(r"(?>(?:[!#$&+\-.0-9A-Z^_`a-z{|}~]|%[0-9A-Fa-f]{2})*)")
_NAME = wide_set(r"!#$%&*+\-.0-9A-Z^_`a-z{|}~")
_CHARSET_AND_LANGUAGE = re.compile(rf"(?P<charset>{_NAME}*)'{_NAME}*'")
_SECTION = re.compile(r"\*([0-9]{1,9})(?![0-9])")
_ENCODED_WORD = re.compile(rf'(?P<quote>"?){ENCODED_WORD}(?P=quote)')
_QUOTED_TEXT = wide_set(rf"!#-\[\]-~{CONTROL}")
_QUOTED = re.compile(rf'"((?>(?:[ \t]|\r?\n(?=[ \t\r\n])|{_QUOTED_TEXT}|{PAIR})*))"')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_OCTET = re.compile(rb"%([0-9A-Fa-f]{2})")


class Parameter(NamedTuple):
    """A parameter: `name*section*=charset'language'text`. The text is not decoded if `percent`."""

    name: str
    text: str
    section: int | None = None
    percent: bool = False
    charset: str | None = None


class ExactType(NamedTuple):
    """A media type as it was written, with its parameters."""

    media_type: str
    parameters: list[Parameter]

    def parameter(self, name: str) -> bytes | None:
        """Return the value of a parameter, or None. Values of one name are joined: `boundary=a; boundary=b` is `ab`."""
        found = [parameter for parameter in self.parameters if parameter.name.lower() == name]
        if not found:
            return None
        value, codec = b"", None
        for one in sorted(found, key=lambda parameter: -1 if parameter.section is None else parameter.section):
            codec = codec if one.charset is None else charset_name(one.charset, strict=True)
            value += _unquoted(one.text, codec) if one.percent and codec else one.text.encode()
        return value


def content_type(value: bytes | None) -> ExactType | None:
    """Read a Content-Type; None if there is none, or if it does not fit the grammar."""
    text = _text(value)
    major = _TOKEN.match(text, _blank(text, 0))
    slash = 0 if major is None else _blank(text, major.end())
    minor = _TOKEN.match(text, _blank(text, slash + 1)) if text[slash : slash + 1] == "/" else None
    if major is None or minor is None:
        return None
    parameters = _parameters(text, _blank(text, minor.end()))
    return None if parameters is None else ExactType(f"{major[0]}/{minor[0]}", parameters)


def transfer_encoding(value: bytes | None) -> str:
    """Return a transfer encoding in lower case; `7bit` if there is none, or if it does not fit the grammar."""
    text = _text(value)
    token = _TOKEN.match(text, _blank(text, 0))
    if token is None or _parameters(text, _blank(text, token.end())) is None:
        return "7bit"
    return token[0].lower()


def _text(value: bytes | None) -> str:
    try:
        text = "" if value is None else value[:_SIZE_LIMIT].decode()
    except UnicodeDecodeError:
        return _FITS_NOWHERE
    return text if text.count("(") <= COMMENTS_LIMIT else _FITS_NOWHERE


def _parameters(text: str, at: int) -> list[Parameter] | None:
    """Return the parameters from `at` to the end or up to the limit, or None if they do not fit the grammar."""
    found: list[Parameter] = []
    while at < len(text) and len(found) < _PARAMETER_LIMIT:
        at = _blank(text, at + 1 if text[at] == ";" else at)
        read = _parameter(text, at)
        if read is None:
            return None
        parameter, at = read
        found.append(parameter)
        at = _blank(text, at)
    return found


def _parameter(text: str, at: int) -> tuple[Parameter, int] | None:
    """Return a parameter and its end."""
    name = _ATTRIBUTE.match(text, at)
    if name is None:
        return None
    section = _SECTION.match(text, name.end())
    at = (section or name).end()
    percent = text[at : at + 1] == "*"
    at = _blank(text, at + percent)
    if text[at : at + 1] != "=":
        return None
    at = _blank(text, at + 1)
    if section is None and not percent:
        value, end = _plain_value(text, at)
        return Parameter(name[0], value), end
    prefix = _CHARSET_AND_LANGUAGE.match(text, at) if percent else None
    value, end = _extended_value(text, at) if prefix is None else _percent_value(text, prefix.end())
    charset = None if prefix is None else prefix["charset"] or None
    return Parameter(name[0], value, None if section is None else int(section[1]), percent, charset), end


def _plain_value(text: str, at: int) -> tuple[str, int]:
    word = _ENCODED_WORD.match(text, at)
    if word is not None and (decoded := decoded_word(*word.group("charset", "encoding", "encoded"))) is not None:
        return decoded, word.end()
    token = _TOKEN.match(text, at)
    return _extended_value(text, at) if token is None else (token[0], token.end())


def _extended_value(text: str, at: int) -> tuple[str, int]:
    quoted = _QUOTED.match(text, at)
    return _percent_value(text, at) if quoted is None else (_ESCAPED.sub(r"\1", quoted[1]), quoted.end())


def _percent_value(text: str, at: int) -> tuple[str, int]:
    value = _EXTENDED.match(text, at)
    return ("", at) if value is None else (value[0], value.end())


def _blank(text: str, at: int) -> int:
    """Return the end of the white space and the comments that begin at `at`."""
    while True:
        fold = _FOLD.match(text, at)
        start = at if fold is None else fold.end()
        end = comment_end(text, start) if text[start : start + 1] == "(" else None
        if end is None:
            return start
        at = end


def _unquoted(text: str, codec: str) -> bytes:
    """Return octets of RFC 2231 in UTF-8; nothing if they are not in their charset."""
    octets = _OCTET.sub(lambda octet: bytes((int(octet[1], 16),)), text.encode())
    try:
        return octets.decode(codec).encode()
    except ValueError:
        return b""
