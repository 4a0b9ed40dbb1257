"""The OpenAPI document and the application, put to each other."""

import base64
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from sidecar.admin import application
from sidecar.metrics import Memory
from tests.admin.asking import service

_HOSTS = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map("[{}]".format)
_LISTENERS = st.builds("{}:{}".format, _HOSTS, st.integers(0, 65535))
schemathesis.openapi.format("ip-listener", _LISTENERS)
schemathesis.openapi.format("ip-peer", _LISTENERS | _HOSTS | st.ip_addresses(v=6).map(str))
schemathesis.openapi.format("byte", st.binary().map(lambda content: base64.b64encode(content).decode()))

# Words out of the program's own source fit no format.
_CONFIG = SchemathesisConfig.from_dict({"analysis": {"constants": {"enabled": False}}})
_MEMORY = Memory()
_MEMORY.say(workers_ready=1)
# The name under which it asks is its own; on a UNIX socket any will do.
_APP = application(service(), _MEMORY, listening="unix:/s")
schema = schemathesis.openapi.from_asgi("/openapi.json", _APP, config=_CONFIG)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case: schemathesis.Case[Any]) -> None:
    """Whatever is asked, rightly or wrongly: status, headers, type and shape."""
    case.call_and_validate()
