"""The tests mirror the packages of `sidecar/`. Other folders hold what runs the whole program, or real MTAs beside it."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DATA: Final = ROOT / "tests" / "data"
