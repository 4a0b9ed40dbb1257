"""The section [admin]: where policy and metrics are served over HTTP.

Owns the keys of that section. Never listens.
"""

import os
from pathlib import Path

from sidecar.config.readers import milter_socket, socket_mode, text
from sidecar.config.remote import is_remote
from sidecar.config.tables import Table
from sidecar.core.settings.values import AdminSettings


def read_admin(whole: Table, folder: Path, *, milter: str) -> AdminSettings | None:
    """Read the section out of the whole settings file; None where it is left out. A relative path starts in `folder`.

    `milter` is the milter's socket.
    """
    table = whole.table("admin")
    taken = table.take(
        {
            "socket": milter_socket(folder, "a socket"),
            "socket_mode": socket_mode,
            "socket_owner": text("a user name"),
            "socket_group": text("a group name"),
        }
    )
    table.close()
    if "admin" not in whole.values:
        return None
    admin = AdminSettings(**taken)
    if is_remote(admin.socket):
        fact = f"Other machines can reach {admin.socket}, and whoever reaches it can ask what the policy is."
        fix = "Listen on 127.0.0.1, [::1] or a UNIX socket; for others, let a web server that knows them stand in front of it."
        table.fault("remote_socket", "socket", fact, fix)
    elif _place(admin.socket) == _place(milter):
        table.fault(
            "conflict", "socket", f"The milter listens on {milter} already.", "Write another port or path for one of the two."
        )
    return admin


def _place(listening: str) -> str:
    """Return the path that a socket has without symbolic links, or its port.

    libmilter knows its own socket by the port alone, and whether two addresses overlap depends on the machine.
    """
    kind, _, where = listening.partition(":")
    return os.path.realpath(where) if kind == "unix" else where.rpartition(":")[2]
