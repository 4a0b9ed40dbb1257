"""What all tests of the fleet share."""

import ssl
from collections.abc import Iterator
from functools import cache

import pytest

from sidecar.core.settings.fleet import FleetSettings


@pytest.fixture(scope="session", autouse=True)
def _authorities() -> Iterator[None]:
    """Load the system's certificates once. Each connection loads them: 20 ms of CPU time, and the tests make hundreds."""
    connection = pytest.importorskip("sidecar.fleet.connection", reason="sidecar[fleet] is not installed")
    loaded, of_system = connection._tls, cache(ssl.create_default_context)

    def tls(fleet: FleetSettings) -> ssl.SSLContext:
        context: ssl.SSLContext = of_system() if fleet.tls_ca is None else loaded(fleet)
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_tls", tls)
        yield
