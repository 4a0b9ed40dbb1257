"""The application answers as its OpenAPI document says."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sidecar.core.settings.proof import VerifySettings
from sidecar.core.settings.values import AdminSettings
from sidecar.daemon.http import suppression
from sidecar.daemon.metrics import Memory
from sidecar.suppression.serving import ServedList
from tests.building import entry
from tests.core.proof.making import secret
from tests.daemon.http.asking import DOMAINS, app
from tests.daemon.http.test_access import BOTH, OPERATOR
from tests.suppression.journals import consume, with_list, write_segment
from tests.suppression.records import feedback


class _Later:
    """A list that the fixture makes: the document is read before any test runs."""

    made: ServedList

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)


_MEMORY = Memory()
_MEMORY.publish({("workers", "ready"): 1})
_LIST: Any = _Later()
# The client sends its own Host header; on a UNIX socket any name is accepted.
_APP = app(
    [*DOMAINS, entry("relay.example", "10.1.1.1:25", relay_to=False)],
    _MEMORY,
    listening="unix:/s",
    suppressed=_LIST,
    verify=VerifySettings(secrets=(secret(b"the-secret-of-the-tests-is-no-secret"),)),
    admin=AdminSettings(tokens=BOTH),
)
schema = schemathesis.openapi.from_asgi("/openapi.json", _APP)


@pytest.fixture(scope="module", autouse=True)
def _list(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make a list. Nothing applies changes of it: they are answered 202."""
    listed = with_list(tmp_path_factory.mktemp("list"))
    write_segment(listed, 0, [feedback(f"a{number}@example.com") for number in range(20)])
    consume(listed)
    _LIST.made = ServedList(listed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, "IN_FORCE_SECONDS", 0.0)
        yield
    _APP.close()


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case: schemathesis.Case[Any]) -> None:
    """Status, headers, type and shape, for valid and invalid requests."""
    # JSON Schema has no word for an address, for a time in the future, and for one line of text.
    excluded: list[Any] = [positive_data_acceptance] if case.path.startswith("/v1/suppression") else []
    case.call_and_validate(headers={"Authorization": f"Bearer {OPERATOR}"}, excluded_checks=excluded)
