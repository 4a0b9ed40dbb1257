"""The figures as one HTML page: without scripts or external resources, with every outside text escaped.

jinja2 is slow to load: import this module only for a page.
"""

import re
from base64 import b64encode
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sidecar.commands.stats.collector import NO_DOMAIN, OTHER_TYPE
from sidecar.commands.stats.summary import Summary
from sidecar.commands.stats.wording import extent, headline, moment, nothing_found, range_asked, share
from sidecar.core.records.reason import UNKNOWN
from sidecar.core.text import printable

_ROWS = 20

# Dark and narrow, with the condition for the browser. The last one needs none.
VARIANTS = {
    (True, True): "(prefers-color-scheme: dark) and (max-width: 40rem)",
    (True, False): "(prefers-color-scheme: dark)",
    (False, True): "(max-width: 40rem)",
    (False, False): "",
}
"""The variants of the picture, as (dark, narrow)."""
_PLACEHOLDER = re.compile("<(ip|domain|address|number|id)>")


def page(summary: Summary, pictures: Mapping[tuple[bool, bool], bytes], *, host: str, made: str) -> str:
    """Return the page. `pictures` are SVG: the records over time, in all `VARIANTS`.

    `host` is the name of this machine, and `made` the time of the page, RFC 3339.
    """
    environment = Environment(
        loader=PackageLoader("sidecar.commands.stats", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"extent": extent, "marked": _marked, "moment": moment, "number": "{:,}".format, "share": share}
    times = "" if summary.first is None or summary.last is None else f", {moment(summary.first)} to {moment(summary.last)} UTC"
    return environment.get_template("page.html").render(
        summary=summary,
        pictures=[
            (condition, f"data:image/svg+xml;base64,{b64encode(pictures[variant]).decode()}")
            for variant, condition in (VARIANTS.items() if summary.records else ())
        ],
        host=host,
        made=made,
        asked=range_asked(summary),
        times=times,
        headline=headline(summary) if summary.records else nothing_found(summary),
        no_names={OTHER_TYPE, UNKNOWN, NO_DOMAIN},
        rows=_ROWS,
    )


def _visible(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _marked(name: str) -> Markup:
    """Return a reason in which each placeholder looks different from text."""
    pieces = enumerate(_PLACEHOLDER.split(name))
    return Markup().join(
        Markup("<var>&lt;{}&gt;</var>").format(piece) if place % 2 else escape(printable(piece)) for place, piece in pieces
    )
