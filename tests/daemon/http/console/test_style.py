"""The colours of dispositions in the style sheet: each is visible on its ground, and the three rejections differ."""

import re
from importlib import resources
from itertools import combinations

import pytest

from sidecar.core.disposition import Disposition

# WCAG 2.2, 1.4.11.
GRAPHICS = 3.0
# Enough to tell neighbours apart by lightness alone.
SHADES = 1.5


def colours() -> list[dict[str, str]]:
    """Return the colours by name, of the light and of the dark page."""
    text = resources.files("sidecar.daemon.http.console").joinpath("static/style.css").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    )
    return [light, dark]


def luminance(colour: str) -> float:
    """Return the relative luminance as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_the_colours_of_dispositions(which: int) -> None:
    found = colours()[which]
    for name in Disposition:
        assert contrast(found[name.value], found["panel"]) >= GRAPHICS, name
    rejected = [found[name.value] for name in Disposition if name.value.startswith("rejected")]
    assert len(rejected) == 3
    for one, other in combinations(rejected, 2):
        assert contrast(one, other) >= SHADES


def test_the_reference_values() -> None:
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)
