"""Where the program keeps its state, as told by a settings file, even one with errors, or by the system.

Owns the default, and a way to the state that leads past the rest of the settings. Never creates the directory.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import tomli

# Where a file names it, whatever is broken elsewhere: TOML's string of either kind, or JSON's, which TOML can read as well.
_NAMED: Final = re.compile(
    r"""(?:^|[{,])[ \t]*(?:state_directory|"state_directory")[ \t]*[=:][ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*')""",
    re.MULTILINE,
)


def state_directory(path: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Give the state directory that the settings file at `path` names, whatever else is wrong with it, or else the default.

    It is for looking at a running program whose settings file somebody has broken since it started.
    """
    if path is None:
        return default_state_directory(environ)
    try:
        found = _NAMED.search(path.read_text("utf-8", "replace"))
        named = tomli.loads(f"named = {found[1]}")["named"] if found else None
    except (OSError, ValueError):
        named = None
    return path.parent.absolute() / named if named else default_state_directory(environ)


def default_state_directory(environ: Mapping[str, str]) -> Path:
    """The directory systemd made for the program (systemd.exec(5)), else root's or the user's (XDG Base Directory)."""
    if made := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(made)
    state_home, home = Path(environ.get("XDG_STATE_HOME", "")), environ.get("HOME")
    if os.geteuid() == 0 or not (state_home.is_absolute() or home):
        return Path("/var/lib/sidecar")
    # The XDG specification wants a relative path there ignored.
    return (state_home if state_home.is_absolute() else Path(f"{home}/.local/state")) / "sidecar"
