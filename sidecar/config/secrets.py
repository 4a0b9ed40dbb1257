"""Files with a secret: their reading, and which rights they may have. Never shows a secret."""

import os
import stat
from pathlib import Path
from typing import Final

from sidecar.config.files import UnreadableError, read_content
from sidecar.config.tables import Table
from sidecar.core.proof.secret import read_secret
from sidecar.core.settings.keys import Secret
from sidecar.core.settings.values import Source, Where
from sidecar.core.text import shown

# The owner can do all with a secret file, its group can read it: root owns it, and the group is that of the service.
_FORBIDDEN: Final = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


def read_secret_file(table: Table, where: Where, file: str, folder: Path, sources: list[Source]) -> Secret | None:
    """Return the secret in a file; add an error if it has none, or if other users can read it. The file becomes a source."""
    content = private_content(table, where, file, folder, sources, fix=f"Make it with `sidecar keys make {folder / file}`")
    if content is None:
        return None
    found = read_secret(content)
    if isinstance(found, Secret):
        return found
    fix = "Write a line of 32 to 256 random characters: openssl rand -hex 32."
    table.findings.error("invalid_key", Where(file=file, line=1, key=""), f"This is not a secret: {found}.", fix)
    return None


def private_content(  # noqa: PLR0913 - the place of the finding, and the file
    table: Table, where: Where, file: str, folder: Path, sources: list[Source], *, fix: str
) -> bytes | None:
    """Return what a file has; add an error if it cannot be read, or if other users can read it.

    `fix` says how a missing file is made, as the beginning of a sentence.
    """
    try:
        content = read_content(folder / file, file, sources)
    except UnreadableError as error:
        todo = error.fix if os.path.lexists(folder / file) else f"{fix}, or name another."
        table.findings.error("unreadable_file", where, error.text, todo)
        return None
    if (mode := _mode(sources[-1])) & _FORBIDDEN:
        fault = f"Other users can use the secret in {shown(file)}: its mode is {mode:04o}."
        todo = f"Run chmod 600 {file}, or chmod 640 if only the service's group owns it. Make a new secret if others read it."
        table.findings.error("exposed_secret", where, fault, todo)
    return content


def _mode(source: Source) -> int:
    """Return the permission bits of a file that was read."""
    return 0 if source.stamp is None else stat.S_IMODE(source.stamp[4])
