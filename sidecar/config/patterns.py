r"""Patterns of rule files: regular expressions as KumoMTA has them (Rust's regex crate), compiled by RE2.

Owns what a pattern may say. Never searches a text: the classifier does.

Why RE2: what is searched comes from strangers, and RE2 reads each byte of it once, whatever the pattern; it is written in the
same syntax, but for what `pattern` finds and refuses. One difference stays: `\d`, `\w`, `\s` and `\b` mean ASCII here.
"""

import re
from typing import Final

import re2  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.config.readers import WrongValue, wrong
from sidecar.core.classifier import re2_options
from sidecar.core.text import printable, quoted, shown

# RE2's instructions, over all patterns, that come of counting alone: `.{0,40}` has 350, `[ab]{40}` 40, `(?:.{9}){9}` as many
# as `.{81}`. A hostile line runs through as many states at once, and meets new ones with each byte: 2,048 characters take
# 10 ms with `[ab]*a[ab]{400}`, 21 ms with `{1000}`, and 26 ms with four such as `a.{0,100}b`. A report may bring a thousand
# such lines. KumoMTA's own files count nothing.
REPETITION_LIMIT: Final = 400

# What RE2 would read in another way than Rust's crate: the edges of words (`\<`, `\b{start}`), a brace that begins no
# repetition (which Rust refuses), and classes that are combined. It is asked only of patterns that RE2 takes.
_TOKEN = re.compile(
    r"""(?P<edge>\\[<>]|\\b\{)
      | \\[pPx]\{[^{}]*\} | \\[\s\S]
      | \[\^?\]?(?P<inside>(?>(?:\\[\s\S]|\[:\^?[a-z]+:\]|[^\]\\])*))\]?
      | \{[0-9]+(?:,[0-9]*)?\}
      | (?P<brace>\{)
    """,
    re.VERBOSE,
)
_PLAIN_IN_CLASS = re.compile(r"\\[\s\S]|\[:\^?[a-z]+:\]")
_COMBINED = re.compile(r"\[|&&|--|~~")

_BACKSLASH: Final = "Write a backslash before a character that is meant itself, and in TOML put the pattern in single quotes."
# What RE2 says, and what helps. The first that fits is the one; the last always does.
_ADVICE: Final = tuple(
    (re.compile(complaint), fix)
    for complaint, fix in (
        (
            r"perl operator: \(\?<?[=!]",
            "There is no look-around here, nor in KumoMTA: match what stands there, and put exceptions into an earlier rule.",
        ),
        (r"escape sequence: \\[1-9]|operator: \(\?P", "There are no back-references here, nor in KumoMTA: write the text out."),
        (r"perl operator", "Known here are (?i), (?m), (?s), (?U), (?:...) and (?P<name>...)."),
        (r"repetition size", "Repeat up to 1000 times, with the smaller number first, as in {2,10}."),
        (r"bad repetition", "Write one repetition, such as + or *; ++ and ** do not exist here."),
        (r"too large", "Write a shorter one: counted repetitions such as .{1,500} take most room."),
        (
            r"class range",
            "Write the lower character first, as in [a-z]; and of Unicode's classes \\pL or \\p{Greek}, by short name.",
        ),
        (r"", _BACKSLASH),
    )
)


def pattern(value: object) -> str:
    """Read a regular expression. What it cannot be here is told with what RE2 says of it."""
    if not isinstance(value, str):
        raise wrong(
            f"{shown(value)} is not a regular expression.",
            "Write one in single quotes, such as '^550 5\\.1\\.1 '.",
            "wrong_type",
        )
    try:
        re2.compile(value, re2_options())
    except UnicodeEncodeError:
        raise wrong(f"{quoted(value)} has half a character.", "Write the character itself.", "invalid_pattern") from None
    except re2.error as error:
        raise _refused(value, error.args[0].decode("utf-8", "replace")) from None
    for token in _TOKEN.finditer(value):
        _see_same_meaning(value, token)
    return value


def repetition_size(value: str) -> int:
    """Give how many instructions a pattern has for its counted repetitions, above what it has without the counts."""
    uncounted = _TOKEN.sub(lambda token: "" if token[0].startswith("{") else token[0], value)
    return 0 if uncounted == value else max(0, _size(value) - _size(uncounted))


def _size(value: str) -> int:
    return int(re2.compile(value, re2_options()).programsize)


def _refused(value: str, complaint: str) -> WrongValue:
    fix = next(fix for known, fix in _ADVICE if known.search(complaint))
    # RE2 quotes the piece that it stumbled over, which may be all the rest.
    what, _, piece = complaint.partition(": ")
    told = f"{what} {quoted(piece)}" if piece else printable(what)
    return wrong(f"{quoted(value)} is not a regular expression: {told}.", fix, "invalid_pattern")


def _see_same_meaning(value: str, token: re.Match[str]) -> None:
    """Refuse what KumoMTA reads in another way. Raises WrongValue."""
    if token["edge"] is not None:
        text = f"{quoted(value)} has {token['edge']}, which is the edge of a word in KumoMTA, and not here."
        raise wrong(text, "Write \\b for the edge of a word, or the character without a backslash.", "invalid_pattern")
    if token["brace"] is not None:
        text = f"{quoted(value)} has a {{ that begins no repetition, which KumoMTA refuses."
        raise wrong(text, "Write \\{ for the character itself, or a repetition in full, such as {0,3}.", "invalid_pattern")
    if token["inside"] is not None and _COMBINED.search(_PLAIN_IN_CLASS.sub("", token["inside"])):
        text = f"{quoted(value)} combines classes of characters, by [, &&, -- or ~~ inside of [ ], which is not known here."
        fix = "Write one class, with a backslash before such characters where they are meant themselves."
        raise wrong(text, fix, "invalid_pattern")
