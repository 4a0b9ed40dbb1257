"""The figures as pictures. matplotlib is optional and slow to load: import this module only for a picture."""

import io
from datetime import UTC
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from sidecar.commands.stats.summary import Ranking, Summary
from sidecar.commands.stats.timeline import Timeline
from sidecar.commands.stats.wording import headline, span
from sidecar.core.text import printable

# Colours for readers with colour blindness too (Okabe and Ito, 2008).
_COLOURS = {
    "Rejection": "#d55e00",
    "Reception": "#0072b2",
    "OOB": "#e69f00",
    "Feedback": "#cc79a7",
    "Delivery": "#009e73",
    "Bounce": "#882255",
    "TransientFailure": "#f0e442",
}
_OTHER_COLOUR = "#999999"
_BAR_COLOUR = "#56b4e9"
_BARS = 10
_LABEL_LIMIT = 40
_DAY = 86400
_WIDTH = 12.0
_DPI = 110

# A dollar sign in a name begins no formula, and a matplotlibrc in the current directory, which could run TeX, has no effect.
_RULES: Any = {"text.parse_math": False, "text.usetex": False, "svg.hashsalt": "sidecar", "font.size": 9}
_STYLE = ["default", _RULES]
_LIGHT_INK = "#dddddd"
_DARK: Any = {"axes.facecolor": "none"} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _LIGHT_INK
)


def timeline_svg(summary: Summary, *, dark: bool = False, narrow: bool = False) -> bytes:
    """Draw the records over time as SVG without a background, in the colours of a light or dark page.

    A narrow picture has a third of the width: its text is large enough on a phone.
    """
    with style.context([*_STYLE, _DARK if dark else {}]):
        figure = Figure(figsize=(_WIDTH / 3 if narrow else _WIDTH, 3.2), layout="constrained", facecolor="none")
        _draw_timeline(figure.add_subplot(), summary.timeline, narrow=narrow)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        return drawn.getvalue()


def picture(summary: Summary, *, host: str) -> bytes:
    """Draw all figures as one PNG. `host` is the name of this machine."""
    panels = list(summary.names())
    rows = -(-len(panels) // 2)
    with style.context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.6 + 2.6 * rows), dpi=_DPI, layout="constrained")
        figure.suptitle(f"{headline(summary)}, on {_label(host)}")
        grid = figure.add_gridspec(1 + rows, 2, height_ratios=[1.2] + [1] * rows)
        _draw_timeline(figure.add_subplot(grid[0, :]), summary.timeline)
        for place, (title, ranking) in enumerate(panels):
            _draw_ranking(figure.add_subplot(grid[1 + place // 2, place % 2]), title, ranking)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", metadata={"Software": None})
        return drawn.getvalue()


def _draw_timeline(axes: Axes, timeline: Timeline | None, *, narrow: bool = False) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if timeline is None:
        axes.text(0.5, 0.5, "no records", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.grid(axis="y", alpha=0.3)
    width = timeline.seconds / _DAY
    buckets = range(timeline.start, timeline.end, timeline.seconds)
    days = [second / _DAY for second in buckets]
    below = [0] * len(days)
    for kind, counts in timeline.series.items():
        how: Any = {"align": "edge", "color": _COLOURS.get(kind, _OTHER_COLOUR), "linewidth": 0, "antialiased": False}
        axes.bar(days, counts, width=width, bottom=below, label=kind, **how)
        below = [under + count for under, count in zip(below, counts, strict=True)]
    # With so many labels at most, they do not overlap.
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=4 if narrow else 12)  # type: ignore[no-untyped-call]  # dates are not annotated there
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]  # likewise
    axes.set_xlim(days[0], days[-1] + width)
    axes.set_xlabel("time (UTC)")
    axes.set_ylabel(f"records in {span(timeline.seconds)}")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    columns = 2 if narrow else len(timeline.series)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, borderaxespad=0)


def _draw_ranking(axes: Axes, title: str, ranking: Ranking) -> None:
    shown = ranking.top[:_BARS]
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.barh(range(len(shown)), [entry.count for entry in shown], color=_BAR_COLOUR)
    axes.set_yticks(range(len(shown)), [_label(entry.name) for entry in shown])
    axes.invert_yaxis()
    # A few bars are as thin as many.
    axes.set_ylim(max(len(shown), 5) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _label(name: str) -> str:
    """Return a name that fits beside a bar: short, and in letters that every font has."""
    plain = printable(name).encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= _LABEL_LIMIT else plain[: _LABEL_LIMIT - 3] + "..."
