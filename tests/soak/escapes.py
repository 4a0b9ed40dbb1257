"""Hostile text in HELO, addresses, header fields and reports, and every command that shows it on a terminal or as HTML.

Owns the texts and the search for them. Never reads a record.
"""

import contextlib
import json
import os
import pty
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from msgspec import Struct

from tests import ROOT
from tests.soak.hostile import report
from tests.wire.client import Mta
from tests.wire.program import Program

DOMAINS = """\
["relay.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenDrop"
"""
SETTINGS = """\
headers = ["Subject", "X-*"]
unparsable_reports = "quarantine"
[limits]
record_bytes_per_byte = 0
reports_per_second = 1000000
rejection_records_per_second = 1000000
"""

# A colour that no output of ours has.
HOSTILE_COLOUR = "\x1b[35;7;5m"
_TEXTS = (
    *(
        HOSTILE_COLOUR,
        "\x1b[2J",
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://evil.example\x07x",
        "\x1b[6n",
        "\x1bP+q\x1b\\",
    ),
    *("\x9b31m", "\x9d0;title\x9c", "\x90", "\x85", "\x07", "\x08\x08\x08", "\r", "\t", "\x0b", "\x0c", "\x7f", "\x0e"),
    *("\u202e", "\u2066", "\u200e", "\u200b", "\ufeff", "\u2028", "\u2029", "\u00ad", "\U000e0041", "\ue000", "\u0378"),
    *(
        "[bold red]x[/]",
        "[link=http://evil.example]x[/link]",
        "[/]",
        ":smile:",
        "{x}",
        "%s",
        "\\u001b",
        "\\",
        '"',
        "'",
        "`",
        "$(x)",
    ),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '" onmouseover="x', "' style='x", "</td></table>", "<!--"),
    *("]]>", "&lt;", "&#60;script&#62;", "javascript:x", "<b", "</title><svg/onload=x>", "text", "ü", "\U0001f600"),
)
_BYTES = (b"\xff", b"\xc2", b"\xe2\x80", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x9b31m")

_BETWEEN = "--- the next command ---\n"
# All in one process: starting the program takes longer than any of them.
_RUN = f"""
import json, sys
from sidecar.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit:
        pass
    sys.stdout.write({_BETWEEN!r})
    sys.stdout.flush()
"""

_SGR = re.compile(r"\x1b\[[0-9;]*m")
# What terminals obey or nobody sees, and what readers of lines take for a line end.
_UNFIT_FOR_JSON = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
_BOUNCE = "\n".join(
    (
        *("Reporting-MTA: {}", "Original-Envelope-Id: {}", "X-Note: {}", "Arrival-Date: {}", ""),
        *("Final-Recipient: rfc822; {}@a.example", "Original-Recipient: {}; {}", "Action: failed", "Status: 5.1.1 {}"),
        *("Diagnostic-Code: smtp; 550 5.1.1 {}", "Remote-MTA: dns; {}", ""),
    )
)
_COMPLAINT = "\n".join(
    (
        *("Feedback-Type: {}", "User-Agent: {}", "Version: 1", "Original-Mail-From: {}", "Original-Rcpt-To: {}"),
        *("Reported-Domain: {}", "Reporting-MTA: dns; {}", "Source-IP: {}", "Authentication-Results: {}", "X-Note: {}", ""),
    )
)


class Shown(Struct, frozen=True, kw_only=True):
    """How many hostile messages were recorded, how much text the commands showed, and what should not be in it."""

    messages: int
    characters: int
    wrong: list[str]


def attack(number: int, *, seed: int, engine: str = "direct", seconds: float = 600) -> Shown:
    """Send so many hostile messages, or for `seconds`, and look for their text in what every command shows."""
    source = random.Random(f"{seed} escapes")  # noqa: S311 - repeatable
    with Program(settings=SETTINGS, milter="workers = 1", engine=engine, domains=DOMAINS) as program:
        deadline = time.monotonic() + seconds
        files: list[bytes] = []
        while len(files) < number and time.monotonic() < deadline:
            files.append(_send(program, _hostile, source))
        paths = [program.directory / f"{position}.eml" for position in range(min(20, len(files)))]
        for path, content in zip(paths, files, strict=False):
            path.write_bytes(content)
        outputs = dict(_outputs(program, paths, source))
        wrong = [f"{name}: {found}" for name, text in outputs.items() for found in unfit(name, text)]
        wrong += [
            f"stats --html: {found}" for found in unexpected_markup(outputs["stats --html"], _benign_page(engine, len(files)))
        ]
    return Shown(messages=len(files), characters=sum(map(len, outputs.values())), wrong=wrong)


# --- what is sent


def _hostile(source: random.Random) -> bytes:
    parts = [
        source.choice(_BYTES) if source.random() < 0.1 else source.choice(_TEXTS).encode() for _ in range(source.randint(1, 5))
    ]
    return b"x".join(parts)


def _benign(source: random.Random) -> bytes:
    return source.choice((b"text", b"words", b"name"))


def _send(program: Program, text: Callable[[random.Random], bytes], source: random.Random) -> bytes:
    """Send one message, with such text wherever the milter protocol has room for it; return its content."""

    def words() -> bytes:
        return text(source)

    def filled(fields: str) -> bytes:
        pieces = fields.replace("\n", "\r\n").encode().split(b"{}")
        return b"".join(piece + (words() if index < len(pieces) - 1 else b"") for index, piece in enumerate(pieces))

    with program.mta() as mta:
        mta.negotiate()
        mta.connect(f"203.0.113.{source.randint(1, 254)}")
        mta.helo(words())
        mta.mail(b"<" + source.choice((b"", words() + b"@" + words())) + b">")
        domain = source.choice((b"relay.example", b"bounce.example", b"bounce.example", b"fbl.example", words()))
        accepted = mta.rcpt(b"<" + words().replace(b"@", b"") + b"@" + domain + b">").code == "c"
        header, body = _content(domain, words, filled)
        if accepted:
            _send_content(mta, header, body)
        return b"".join(name + b": " + value + b"\r\n" for name, value in header) + b"\r\n" + body


def _content(
    domain: bytes, words: Callable[[], bytes], filled: Callable[[str], bytes]
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    kinds = {
        b"bounce.example": ("delivery-status", "message/delivery-status", _BOUNCE),
        b"fbl.example": ("feedback-report", "message/feedback-report", _COMPLAINT),
    }
    kind, part, fields = kinds.get(domain, ("delivery-status", "text/plain", "{}"))
    returned = filled("Subject: {}\nFrom: {}\nTo: {}\nMessage-ID: <{}>\n\n{}\n")
    content = report(kind, part, "FIELDS\n", returned).replace(b"FIELDS\r\n", filled(fields))
    head, _, body = content.partition(b"\r\n\r\n")
    more = [(b"Subject", words()), (b"X-Note", words()), (b"X-" + words().replace(b":", b""), words())]
    return [*((name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n"))), *more], body


def _send_content(mta: Mta, header: list[tuple[bytes, bytes]], body: bytes) -> None:
    mta.data()
    for name, value in header:
        if mta.header(name, value).code not in {"", "c"}:
            return
    if mta.end_of_headers().code in {"", "c"} and mta.body(body).code in {"", "c", "s"}:
        mta.end_of_message()


# --- what is shown


def _outputs(program: Program, files: Sequence[Path], source: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (command, its output) for each command: on a terminal and as JSON, and the HTML page."""
    config = ("--config", str(program.directory / "sidecar.toml"))
    journal = str(program.directory / "state" / "journal")
    page = program.directory / "page.html"
    asked = [
        word
        for option in ("--helo", "--auth", "--from", "--to")
        for word in (option, _hostile(source).decode("utf-8", "replace").replace("\0", ""))
    ]
    some = program.directory / "some.jsonl"
    # Of many records it shows totals, of few each one.
    some.write_bytes(b"".join(_records(program)[:15]))
    commands = {
        "tail": ("tail", *config, "-n", "all", "--no-follow"),
        "explain --record": ("explain", *config, "--record", journal),
        "explain --record, few": ("explain", *config, "--record", str(some)),
        "explain": ("explain", *config, "--peer", "203.0.113.9", *asked),
        "stats": ("stats", *config),
        "parse": ("parse", *map(str, files)),
        "status": ("status", *config),
    }
    for name, text in zip(commands, _on_terminal(list(commands.values())), strict=True):
        yield f"{name} on a terminal", text
    for name, text in zip(commands, _through_pipe([(*words, "--json") for words in commands.values()]), strict=True):
        yield f"{name} --json", text
    _through_pipe([("stats", *config, "--html", str(page))])
    yield "stats --html", page.read_bytes().decode()


def _records(program: Program) -> list[bytes]:
    journal = program.directory / "state" / "journal"
    return [line for path in sorted(journal.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


def _commands(several: Sequence[Sequence[str]]) -> list[str]:
    return [sys.executable, "-c", _RUN, json.dumps(several)]


def _through_pipe(several: Sequence[Sequence[str]]) -> list[str]:
    """Run commands, and return the output of each."""
    ran = subprocess.run(_commands(several), capture_output=True, check=True, cwd=ROOT, timeout=900)
    return ran.stdout.decode().split(_BETWEEN)[:-1]


def _on_terminal(several: Sequence[Sequence[str]]) -> list[str]:
    """Run commands whose output is a terminal of their own; return what each showed."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        # Linux says EIO when nobody has the other end any more.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    try:
        subprocess.run(
            _commands(several), stdout=theirs, stderr=subprocess.DEVNULL, env=environ, cwd=ROOT, check=True, timeout=900
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    # The terminal makes CR LF of each line end.
    return b"".join(shown).decode().replace("\r\n", "\n").split(_BETWEEN)[:-1]


# --- what is searched for


def unfit(name: str, text: str) -> Iterator[str]:
    """Yield each kind of character in an output that should have been escaped."""
    if not text:
        yield "it shows nothing"
    if name.endswith("--json"):
        found = set(_UNFIT_FOR_JSON.findall(text))
    else:
        if HOSTILE_COLOUR in text:
            yield "a colour that a peer chose"
        plain = _SGR.sub("", text)
        found = {character for character in plain if not character.isprintable() and character != "\n"}
    yield from (f"U+{ord(character):04X}" for character in sorted(found))


class _Markup(HTMLParser):
    """The shape of a page: each start tag with the names of its attributes, comments, and what is declared."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(f"<{tag} {' '.join(sorted(name for name, _ in attrs))}>")

    def handle_comment(self, data: str) -> None:
        self.found.add(f"a comment: {data[:40]}")

    def unknown_decl(self, data: str) -> None:
        self.found.add(f"a declaration: {data[:40]}")


def unexpected_markup(page: str, benign: str) -> Iterator[str]:
    """Yield each tag that a page has only with hostile text in it."""
    yield from sorted(_Markup(page).found - _Markup(benign).found)


def _benign_page(engine: str, number: int) -> str:
    """Return the page of as many messages, of other lengths but without anything hostile."""
    source = random.Random(0)  # noqa: S311 - repeatable
    with Program(settings=SETTINGS, milter="workers = 1", engine=engine, domains=DOMAINS) as program:
        for _ in range(number):
            _send(program, _benign, source)
        page = program.directory / "page.html"
        _through_pipe([("stats", "--config", str(program.directory / "sidecar.toml"), "--html", str(page))])
        return page.read_text()
