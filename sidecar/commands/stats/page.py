"""The figures as one HTML page: without scripts or external resources, with every outside text escaped."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape

from sidecar.commands.stats.summary import Ranking, Summary
from sidecar.commands.stats.wording import extent, headline, nothing_found, range_asked, share
from sidecar.core.text import printable

_ROWS = 20

# An SVG image runs no scripts, and the policy forbids them in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 1.8rem 0 .3rem }
p { margin: .2rem 0 } .note { color: #666; font-weight: 400 } img { width: 100%; height: auto; margin-top: 1rem }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); column-gap: 2.5rem }
section { min-width: 0 } table { border-collapse: collapse; width: 100% }
td { padding: .15rem .6rem .15rem 0; border-bottom: 1px solid #e5e5e5; vertical-align: top; overflow-wrap: anywhere }
.n, .t { white-space: nowrap; width: 1% } .n { text-align: right }
.bar { width: 22% } .bar i { display: block; height: .7rem; margin-top: .4rem; background: #56b4e9 }
"""


def page(summary: Summary, svg: bytes) -> str:
    """Return the page. `svg` is the picture of the records over time."""
    return "\n".join(_page(summary, svg)) + "\n"


def _page(summary: Summary, svg: bytes) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>sidecar: {_text(headline(summary))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>Records{_text(range_asked(summary))}</h1>"
    yield f"<p>{_text(headline(summary) if summary.records else nothing_found(summary))}</p>"
    if summary.unreadable:
        yield f'<p class="note">Lines that are no records: {summary.unreadable:,}</p>'
    if summary.records:
        yield f'<img alt="Records over time, by type" src="data:image/svg+xml;base64,{b64encode(svg).decode()}">'
        yield from _section("Types", summary.types)
        yield from _section("Reasons", summary.reasons)
        yield '<div class="grid">'
        for title, ranking in summary.names():
            yield from _section(title, ranking)
        yield "</div>"
    yield "</body>\n</html>"


def _section(title: str, ranking: Ranking) -> Iterator[str]:
    shown = ranking.first(_ROWS)
    yield f'<section>\n<h2>{title} <span class="note">{_text(extent(ranking, len(shown.top)))}</span></h2>\n<table>'
    most = shown.top[0].count
    for entry in shown.top:
        kind = "" if entry.type is None else f'<td class="t">{_text(entry.type)}</td>'
        yield _row(entry.count, ranking.total, kind + f"<td>{_text(entry.name)}</td>", 100 * entry.count / most)
    if shown.others:
        span = "" if shown.top[0].type is None else ' colspan="2"'
        yield _row(shown.others, ranking.total, f'<td class="note"{span}>others</td>', 0)
    yield "</table>\n</section>"


def _row(count: int, total: int, name: str, percent: float) -> str:
    figures = f'<td class="n">{count:,}</td><td class="n">{share(count, total)}</td>'
    return f'<tr>{figures}{name}<td class="bar"><i style="width: {percent:.1f}%"></i></td></tr>'


def _text(text: str) -> str:
    return escape(printable(text))
