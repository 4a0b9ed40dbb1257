"""The application answers as its OpenAPI document says."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings

from sidecar.core.settings.proof import VerifySettings
from sidecar.daemon.metrics import Memory
from tests.building import entry
from tests.core.proof.making import secret
from tests.daemon.http.asking import DOMAINS, app

_MEMORY = Memory()
_MEMORY.publish({("workers", "ready"): 1})
# The client sends its own Host header; on a UNIX socket any name is accepted.
_APP = app(
    [*DOMAINS, entry("relay.example", "10.1.1.1:25", relay_to=False)],
    _MEMORY,
    listening="unix:/s",
    verify=VerifySettings(secrets=(secret(b"the-secret-of-the-tests-is-no-secret"),)),
)
schema = schemathesis.openapi.from_asgi("/openapi.json", _APP)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case: schemathesis.Case[Any]) -> None:
    """Status, headers, type and shape, for valid and invalid requests."""
    case.call_and_validate()
