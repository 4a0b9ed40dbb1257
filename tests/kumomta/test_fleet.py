"""A KumoMTA node gets the policy of a fleet from its sidecar, with the Lua file and the options of any node."""

from pathlib import Path

from tests.fleet.policy.fleets import Operator
from tests.fleet.servers import needs_nats, server
from tests.kumomta.test_policy import node_of, serving
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.wire.program import Program

pytestmark = needs_nats


def test_a_node_of_a_fleet(tmp_path: Path) -> None:
    """It follows each revision, and keeps the last one without NATS."""
    port = free_port()
    with server() as one:
        operator = Operator(tmp_path, one.url)
        settings = operator.section("mx1")
        with Program(settings=settings, milter=serving(port)) as program, node_of(port) as node:

            def mode(domain: str) -> str | None:
                found = node.ask(domain).result
                return None if found is None else str(found["log_oob"])

            wait_until(lambda: mode("bounce.example") == "LogThenDrop", "its own policy is served")
            operator.publish('["new.example"]\nlog_oob = "LogThenRelay"\n')
            wait_until(lambda: mode("new.example") == "LogThenRelay", "the first revision is served")
            # The process that ends can still answer a question.
            wait_until(lambda: mode("bounce.example") is None, "its own policy is not served any more")
            operator.publish('["new.example"]\nlog_oob = "LogThenDrop"\n')
            wait_until(lambda: mode("new.example") == "LogThenDrop", "the second revision is served")
            one.kill()
            assert program.stop() == 0
            program.start()
            wait_until(lambda: mode("new.example") == "LogThenDrop", "the second revision is served without NATS")
