"""The application answers as its OpenAPI document says."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

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

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.schemas import BaseSchema


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["BaseSchema"]:
    """Serve a list of twenty addresses. Nothing applies changes of it: they are answered 202."""
    import schemathesis  # noqa: PLC0415 - each process that collects tests would take 0.4 s for it

    listed = with_list(tmp_path)
    write_segment(listed, 0, [feedback(f"a{number}@example.com") for number in range(20)])
    consume(listed)
    monkeypatch.setattr(suppression, "IN_FORCE_SECONDS", 0.0)
    memory = Memory()
    memory.publish({("workers", "ready"): 1})
    # The client sends its own Host header; on a UNIX socket any name is accepted.
    application = app(
        [*DOMAINS, entry("relay.example", "10.1.1.1:25", relay_to=False)],
        memory,
        listening="unix:/s",
        suppressed=ServedList(listed),
        verify=VerifySettings(secrets=(secret(b"the-secret-of-the-tests-is-no-secret"),)),
        admin=AdminSettings(tokens=BOTH),
    )
    yield schemathesis.openapi.from_asgi("/openapi.json", application)
    application.close()


@pytest.mark.hypothesis
def test_every_answer_is_as_the_document_says(
    document: "BaseSchema", examples: Callable[[int], int], subtests: pytest.Subtests
) -> None:
    """Status, headers, type and shape, for valid and invalid requests."""
    from schemathesis.checks import load_all_checks  # noqa: PLC0415
    from schemathesis.core.result import Ok  # noqa: PLC0415
    from schemathesis.pytest.lazy import get_all_tests  # noqa: PLC0415
    from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: PLC0415

    def answer(case: "Case[Any]") -> None:
        # JSON Schema has no word for an address, for a time in the future, and for one line of text.
        excluded: list[Any] = [positive_data_acceptance] if case.path.startswith("/v1/suppression") else []
        case.call_and_validate(headers={"Authorization": f"Bearer {OPERATOR}"}, excluded_checks=excluded)

    load_all_checks()
    few = settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
    operations = 0
    # Its decorators would make the requests while tests are collected, in each process of a run: 1.5 s.
    for made in get_all_tests(schema=document, test_func=answer, settings=few, given_kwargs=None):
        assert isinstance(made, Ok), made
        operation, test = made.ok()
        operations += 1
        with subtests.test(operation.label):
            test()
    assert operations == document.statistic.operations.total
