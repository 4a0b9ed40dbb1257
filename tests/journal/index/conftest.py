"""All tests of the index wait for complete pages, also on a busy machine."""

import pytest

from sidecar.journal.index import index, searching


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SEARCH_SECONDS", 120.0)
    monkeypatch.setattr(index, "_ANSWER_SECONDS", 120.0)
