"""The program's own numbers of the protocol are libmilter's."""

import milter
import pytest

from sidecar.daemon.milter import context, negotiation

NUMBERS = {
    name: value
    for module in (context, negotiation)
    for name, value in vars(module).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, int) and name != "WAITING"
}


@pytest.mark.parametrize(("name", "value"), NUMBERS.items())
def test_numbers(name: str, value: int) -> None:
    assert value == getattr(milter, name)
