"""The listening socket's descriptor."""

import os
import socket
import subprocess
import sys

import pytest

from sidecar.core.settings.values import MilterSettings
from sidecar.daemon.milter.listener import listen


def test_a_socket_is_told_from_another_one_with_its_port() -> None:
    """By the descriptor: libmilter counts connections by the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        port = other.getsockname()[1]
        listener = listen(MilterSettings(socket=f"inet:127.0.0.1:{port}"))
        try:
            with socket.socket(fileno=os.dup(listener.fileno())) as opened:
                assert opened.getsockname() == ("127.0.0.1", port)
        finally:
            listener.close()


# libmilter has one listening socket for each process, so this runs in another one.
ACCEPT = """
import socket, sys
from sidecar.core.settings.values import MilterSettings
from sidecar.daemon.milter import listen

with socket.create_server((sys.argv[1], 0), family=getattr(socket, sys.argv[2])) as free:
    port = free.getsockname()[1]
listener = listen(MilterSettings(socket=f"inet:[{sys.argv[1]}]:{port}"))
with socket.create_connection((sys.argv[1], port)), socket.socket(fileno=listener.fileno()) as listening:
    listening.settimeout(10)
    accepted, _ = listening.accept()
    print(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
"""


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "AF_INET"), ("::1", "AF_INET6")])
def test_accepted_connections_send_small_answers_at_once(host: str, family: str) -> None:
    """Whichever engine accepts them: they inherit TCP_NODELAY from the listening socket."""
    done = subprocess.run([sys.executable, "-c", ACCEPT, host, family], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
