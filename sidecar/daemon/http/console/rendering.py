"""Templates to pages. Each value that a template shows is harmless: control characters become visible, and HTML is escaped.

Owns the template engine, its filters, the static files, and the headers of all answers of the console.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from sidecar.core.text import LATEST, in_time, in_units, printable, rfc3339

_PACKAGE: Final = "sidecar.daemon.http.console"
_KINDS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_POLICY: Final = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
HEADERS: Final = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: a browser then sends no Origin with a form.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
# A cell of a table; the page of a record shows more.
_CELL: Final = 120
# The reason of a record is at most this long.
_TITLE: Final = 1024
_TEXT: Final = 20_000


def compile_templates() -> None:
    """Compile all templates, so that no request waits for it. Later changes of their files have no effect."""
    for name in _environment().list_templates():
        _environment().get_template(name)


def page(template: str, status: int = 200, **values: object) -> Response:
    """Return a page."""
    return HTMLResponse(_environment().get_template(template).render(values), status)


def fragment(template: str, **values: object) -> str:
    """Return a part of a page."""
    return _environment().get_template(template).render(values)


def static_file(name: str, version: str) -> Response | None:
    """Return a style sheet, script or picture; None if there is no such file. Browsers keep one with its own version."""
    found = _static().get(name)
    if found is None:
        return None
    digest, content = found
    keep = "max-age=31536000, immutable" if version == digest else "no-cache"
    return Response(content, headers={"Cache-Control": keep, "Content-Type": _KINDS[name.rpartition(".")[2]]})


@cache
def _static() -> Mapping[str, tuple[str, bytes]]:
    files = (one for one in resources.files(_PACKAGE).joinpath("static").iterdir() if one.is_file())
    contents = {one.name: one.read_bytes() for one in files}
    return {name: (hashlib.sha256(content).hexdigest()[:12], content) for name, content in contents.items()}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "cut": cut,
        "lines": lines,
        "typed": escape,
        "number": lambda value: f"{value:,}",
        "share": share,
        "time": time_element,
        "units": in_units,
        "value": value_words,
        "seconds": lambda value: in_time(int(value)),
    }
    made.globals["static"] = lambda name: f"/console/static/{name}?v={_static()[name][0]}"
    return made


def _visible(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


# --- filters


def cut(text: str, limit: int = _CELL) -> Markup:
    """Return a text of `limit` characters at most, with a mark and a title if more was. The title has more of it."""
    if len(text) <= limit:
        return escape(printable(text))
    return Markup('<span title="{}">{}<span class="cut">…</span></span>').format(
        printable(text[:_TITLE]), printable(text[:limit])
    )


def lines(text: str, limit: int = _TEXT) -> Markup:
    """Return a text with its line ends, for an element that shows them."""
    shown = "\n".join(printable(line.replace("\t", "    ")) for line in text[:limit].splitlines())
    return escape(shown) + ("" if len(text) <= limit else f"\n[{len(text) - limit:,} more characters]")


def share(part: float, whole: float) -> str:
    """Return a part of a whole in percent; a dash without a whole."""
    if not whole:
        return "–"  # noqa: RUF001 - a dash on a page
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 or not part else f"{percent:.1f} %"  # noqa: PLR2004 - two digits


def value_words(value: object) -> str:
    """Return a value of a setting as a file has it, without the brackets of a list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def time_element(value: float | str) -> Markup:
    """Return a time, in seconds since 1970 or as RFC 3339: in UTC, and a script shows it in the reader's own zone."""
    try:
        seconds = datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value
    except (ValueError, OverflowError):
        seconds = math.inf
    if not 0 <= seconds <= LATEST:
        return escape(printable(str(value)))
    text = rfc3339(int(seconds))
    words = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(text, words, words)
