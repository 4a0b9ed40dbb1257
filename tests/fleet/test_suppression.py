"""One suppression list for many nodes, with real NATS servers."""

from pathlib import Path

from tests.fleet.servers import needs_nats, server
from tests.fleet.sharing import add, listed, make_list_stream, node_of, remove, report, sharing, wait_for
from tests.mta.processes import wait_until
from tests.suppression.records import feedback, oob

pytestmark = needs_nats


def test_first(tmp_path: Path) -> None:
    with server() as one:
        nodes = a, b, c = [node_of(tmp_path, name, one) for name in ("mx1", "mx2", "mx3")]
        make_list_stream(a)
        with sharing(*nodes):
            add(a, "a@example.net")

            wait_until(lambda: "a@example.net" in listed(c), "it")

            report(b, feedback("b@example.net"))
            for number, node in enumerate((a, b, c, a, b)):
                report(node, oob("full@example.net", "QuotaIssues", message=f"m{number}"), ago=number * 40000)

            remove(c, "b@example.net")
            wait_for({"a@example.net", "full@example.net"}, *nodes)
