"""A network of two machines for tests: this one, which has the servers, and a node in a network namespace of its own.

Owns the namespace and the cuts between the two. Use it only in a network namespace of the test: see `ISOLATED`.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mta.processes import owned, stop_group

ISOLATED = ("unshare", "--net", "--mount", "--")
"""What runs a program where it can change networks and mounts: nothing of it stays after its end."""

SERVERS, NODE = "198.51.100.1", "198.51.100.2"
# No machine has it, so packets to it are dropped without an error.
_UNUSED = "02:00:00:00:00:01"


class NodeNetwork:
    """The link between the servers and the node. `enter` is how to start a program on the node."""

    def __init__(self, holder: int) -> None:
        self.enter = ("nsenter", "--target", str(holder), "--net", "--")
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "servers", "type", "veth", "peer", "name", "node", "netns", str(holder))
        _ip("address", "add", f"{SERVERS}/24", "dev", "servers")
        _ip("link", "set", "servers", "up")
        self._on_node("link", "set", "lo", "up")
        self._on_node("address", "add", f"{NODE}/24", "dev", "node")
        self._on_node("link", "set", "node", "up")

    @contextmanager
    def without_link(self) -> Iterator[None]:
        """Take the link away: what the node sends fails at once."""
        self._on_node("link", "set", "node", "down")
        try:
            yield
        finally:
            self._on_node("link", "set", "node", "up")

    @contextmanager
    def without_packets(self) -> Iterator[None]:
        """Drop all packets in both directions: connections hang."""
        self._on_node("neighbour", "replace", SERVERS, "lladdr", _UNUSED, "dev", "node", "nud", "permanent")
        _ip("neighbour", "replace", NODE, "lladdr", _UNUSED, "dev", "servers", "nud", "permanent")
        try:
            yield
        finally:
            self._on_node("neighbour", "del", SERVERS, "dev", "node")
            _ip("neighbour", "del", NODE, "dev", "servers")

    def _on_node(self, *words: str) -> None:
        subprocess.run([*self.enter, "ip", *words], check=True)


@contextmanager
def node_network() -> Iterator[NodeNetwork]:
    """Make the node's namespace, which ends with this."""
    with_own = ["unshare", "--net", "--", "sh", "-c", "echo; exec sleep infinity"]
    holder = owned(with_own, output=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        yield NodeNetwork(holder.pid)
    finally:
        stop_group(holder, signal.SIGKILL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
