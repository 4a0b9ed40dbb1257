"""The figures as one HTML page: without scripts or external resources, with every outside text escaped."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape

from sidecar.commands.stats.collector import NO_DOMAIN, OTHER_TYPE
from sidecar.commands.stats.forms import Forms
from sidecar.commands.stats.summary import Ranking, RankingEntry, Summary
from sidecar.commands.stats.wording import extent, headline, moment, nothing_found, range_asked, share
from sidecar.core.records.reason import UNKNOWN
from sidecar.core.text import printable

_ROWS = 20

# An SVG image runs no scripts, and the policy forbids them in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --note: #5f5f5f; --line: #e2e2e2; --bar: #56b4e9 }
:root { --mark: #eef3f7 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #16181b; --note: #a3a3a3; --line: #33373b; --bar: #2f7fb0; --mark: #2a2f35 }
}
body { font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 1.8rem 0 .3rem }
p { margin: .2rem 0 } .note { color: var(--note); font-weight: 400 } img { width: 100%; height: auto; margin-top: 1rem }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); column-gap: 2.5rem }
section { min-width: 0 } table { border-collapse: collapse; width: 100% }
td { padding: .15rem .6rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
.n, .t { white-space: nowrap; width: 1% } .n { text-align: right }
var { font-style: normal; font-size: .85em; color: var(--note); background: var(--mark) }
var { border-radius: .4em; padding: .1em .35em }
.bar { width: 22% } .bar i { display: block; height: .7rem; margin-top: .4rem; background: var(--bar) }
@media (max-width: 40rem) {
  body { margin: 1rem auto } tr { display: grid; grid-template-columns: auto auto 1fr; border-bottom: 1px solid var(--line) }
  td { display: block; width: auto; border: 0 } .name, .bar { grid-column: 1 / -1; width: auto; padding: 0 }
  .bar { padding-bottom: .4rem } .bar i { height: .3rem; margin-top: .2rem }
}
"""
# Dark and narrow, with the condition for the browser. The last one needs none.
VARIANTS = {
    (True, True): "(prefers-color-scheme: dark) and (max-width: 40rem)",
    (True, False): "(prefers-color-scheme: dark)",
    (False, True): "(max-width: 40rem)",
    (False, False): "",
}
"""The variants of the picture, as (dark, narrow)."""
_PLACEHOLDER = re.compile("<(ip|domain|address|number|id)>")
_NOT_A_NAME = frozenset({OTHER_TYPE, UNKNOWN, NO_DOMAIN})


def page(summary: Summary, pictures: Mapping[tuple[bool, bool], bytes], *, host: str, made: str) -> str:
    """Return the page. `pictures` are SVG: the records over time, in all `VARIANTS`.

    `host` is the name of this machine, and `made` the time of the page, RFC 3339.
    """
    return "\n".join(_page(summary, pictures, host, made)) + "\n"


def _page(summary: Summary, pictures: Mapping[tuple[bool, bool], bytes], host: str, made: str) -> Iterator[str]:
    times = "" if summary.first is None or summary.last is None else f", {moment(summary.first)} to {moment(summary.last)} UTC"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_text(f'{host}{range_asked(summary) or times}')}: sidecar stats</title>\n<style>{_STYLE}</style>"
    yield f"</head>\n<body>\n<h1>Records on {_text(f'{host}{range_asked(summary)}')}</h1>"
    yield f"<p>{_text(headline(summary) if summary.records else nothing_found(summary))}</p>"
    yield f'<p class="note">Made at {_text(moment(made))} UTC. All times are in UTC.</p>'
    if summary.unreadable:
        yield f'<p class="note">Lines that are no records: {summary.unreadable:,}</p>'
    if summary.records:
        yield from _picture(pictures)
        yield from _section("Types", summary.types)
        yield from _section("Reasons", summary.reasons)
        yield '<div class="grid">'
        for title, ranking in summary.names():
            yield from _section(title, ranking)
        yield from _forms(summary.forms)
        yield "</div>"
    yield "</body>\n</html>"


def _picture(pictures: Mapping[tuple[bool, bool], bytes]) -> Iterator[str]:
    yield "<picture>"
    for variant, condition in VARIANTS.items():
        address = f"data:image/svg+xml;base64,{b64encode(pictures[variant]).decode()}"
        if condition:
            yield f'<source media="{condition}" srcset="{address}">'
        else:
            yield f'<img alt="Records over time, by type" src="{address}">'
    yield "</picture>"


def _forms(forms: Forms) -> Iterator[str]:
    """Yield the reporters with the part of their reports that is not complete, now and before."""
    if not forms.reporters:
        return
    remark = "" if forms.since is None else f"since {moment(forms.since)} UTC, and before"
    yield f'<section>\n<h2>Reports that are not complete <span class="note">{_text(remark)}</span></h2>\n<table>'
    for one in forms.reporters[:_ROWS]:
        before = "" if one.before is None else f'<td class="n">{100 * one.before.share:.1f} %</td>'
        name = f"{_text(one.name)}{' <b>drifted</b>' if one.drifted else ''}"
        figures = f'<td class="n">{one.forms.total:,}</td><td class="n">{100 * one.forms.share:.1f} %</td>{before}'
        yield f'<tr>{figures}<td class="name">{name}</td></tr>'
    yield "</table>\n</section>"


def _section(title: str, ranking: Ranking) -> Iterator[str]:
    shown = ranking.first(_ROWS)
    yield f'<section>\n<h2>{title} <span class="note">{_text(extent(ranking, len(shown.top)))}</span></h2>\n<table>'
    most = shown.top[0].count
    for entry in shown.top:
        kind = "" if entry.type is None else f'<td class="t">{_text(entry.type)}</td>'
        yield _row(entry.count, ranking.total, kind + _name(entry), 100 * entry.count / most)
    if shown.others:
        span = "" if shown.top[0].type is None else ' colspan="2"'
        yield _row(shown.others, ranking.total, f'<td class="name note"{span}>others</td>', 0)
    yield "</table>\n</section>"


def _row(count: int, total: int, name: str, percent: float) -> str:
    figures = f'<td class="n">{count:,}</td><td class="n">{share(count, total)}</td>'
    return f'<tr>{figures}{name}<td class="bar"><i style="width: {percent:.1f}%"></i></td></tr>'


def _name(entry: RankingEntry) -> str:
    """Return the cell of a name. What stands for many texts, or for none, looks different from text."""
    if entry.name in _NOT_A_NAME:
        return f'<td class="name note">{_text(entry.name)}</td>'
    pieces = _PLACEHOLDER.split(entry.name) if entry.type is not None else [entry.name]
    marked = (f"<var>&lt;{piece}&gt;</var>" if place % 2 else _text(piece) for place, piece in enumerate(pieces))
    return f'<td class="name">{"".join(marked)}</td>'


def _text(text: str) -> str:
    return escape(printable(text))
