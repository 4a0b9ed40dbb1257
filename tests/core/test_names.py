"""Domain names: what reading one may cost."""

from sidecar.core.names import normal_domain, parents


def test_labels() -> None:
    """A name may have four internationalised labels, also where a mapping makes several labels of one."""
    assert normal_domain("é.à.è.ù.example.com") == "xn--9ca.xn--0ca.xn--8ca.xn--qda.example.com"
    assert normal_domain("é." * 5 + "example") is None
    assert normal_domain("é\u3002" * 5 + "example") is None
    assert normal_domain("é\u3002à.example") == "xn--9ca.xn--0ca.example"


def test_long_labels() -> None:
    """No label of 64 characters is encoded, which would take a microsecond for each of them."""
    assert normal_domain("é" * 64 + ".example") is None
    assert normal_domain("é" * 20 + ".example") is not None


def test_parents() -> None:
    """Label by label, the longest first. The dots of an address literal separate no labels."""
    assert list(parents("a.b.c")) == ["b.c", "c"]
    assert list(parents("c")) == []
    assert list(parents("[192.0.2.1]")) == []
