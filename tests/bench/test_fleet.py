"""The measurements of a fleet run, and count what was shipped. Nothing is timed."""

from tests.bench.fleet import measure
from tests.fleet.servers import needs_nats

SAMPLE = {"type": "OOB", "id": "1", "session_id": "", "recipient": "", "meta": {"why": "x"}}


@needs_nats
def test_the_cost_of_few_records() -> None:
    cost = measure({"reports": [SAMPLE], "relayed": [SAMPLE], "rejected": [SAMPLE]}, 300, 1, "none")
    assert cost.journal > 300 * 200
    assert cost.stream > cost.journal
    assert (cost.records, cost.traffic, len(cost.servers_cpu)) == (300, 0, 1)
