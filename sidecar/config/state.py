"""Find the state directory, also if the settings file has errors.

Owns the default. Never creates the directory.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import tomli

# The key in a file that can be broken elsewhere, with a string of TOML or JSON; TOML can read both.
_NAMED: Final = re.compile(
    r"""(?:^|[{,])[ \t]*(?:state_directory|"state_directory")[ \t]*[=:][ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*')""",
    re.MULTILINE,
)


def state_directory(path: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state directory in the settings file at `path`, whatever else is wrong there, or the default.

    `sidecar status` uses it: the file can be broken after the program started.
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
    """Return the directory that systemd created (systemd.exec(5)), or root's, or the user's (XDG Base Directory)."""
    if made := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(made)
    state_home, home = Path(environ.get("XDG_STATE_HOME", "")), environ.get("HOME")
    if os.geteuid() == 0 or not (state_home.is_absolute() or home):
        return Path("/var/lib/sidecar")
    # The XDG specification: ignore a relative path.
    return (state_home if state_home.is_absolute() else Path(f"{home}/.local/state")) / "sidecar"
