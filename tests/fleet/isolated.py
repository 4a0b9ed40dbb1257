"""A check of the faults of the network, in namespaces: `python -m tests.fleet.isolated`. It fails if a fault does nothing."""

import socket
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext

from tests.fleet.network import SERVERS, NodeNetwork, node_network

# It prints the error of a connection attempt.
_CONNECT = """\
import socket, sys
with socket.socket() as one:
    one.settimeout(0.3)
    try:
        one.connect((sys.argv[1], int(sys.argv[2])))
    except OSError as error:
        print(type(error).__name__, end="")
"""


def check_network() -> None:
    """Without a link an attempt fails at once, and without packets it hangs; then it is as before."""
    with node_network() as network, socket.create_server((SERVERS, 0)) as listening:
        port = listening.getsockname()[1]
        for fault, error in (
            (network.without_link(), "OSError"),
            (network.without_packets(), "TimeoutError"),
        ):
            assert _attempt(network, nullcontext(), port) == ""
            assert _attempt(network, fault, port) == error
        assert _attempt(network, nullcontext(), port) == ""


def _attempt(network: NodeNetwork, fault: AbstractContextManager[None], port: int) -> str:
    with fault:
        command = [*network.enter, sys.executable, "-c", _CONNECT, SERVERS, str(port)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    check_network()
