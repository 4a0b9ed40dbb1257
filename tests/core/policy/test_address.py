"""Which domain an envelope address names."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.names import NO_DOMAIN
from sidecar.core.policy.address import domain_of, has_route, is_readable, normal_address, without_route

CASES = {
    "user@example.com": "example.com",
    "user@EXAMPLE.Com.": "example.com",
    "user@bücher.example": "xn--bcher-kva.example",
    "user@XN--BCHER-KVA.example": "xn--bcher-kva.example",
    "user@BÜCHER。example": "xn--bcher-kva.example",
    "user@＊.example.com": NO_DOMAIN,
    "user@_x.bücher.example": "_x.xn--bcher-kva.example",
    "user@ｅｘａｍｐｌｅ.com": "example.com",
    "user@" + "a" * 64 + ".example": NO_DOMAIN,
    "user@" + "ü" * 64 + ".example": NO_DOMAIN,
    "": NO_DOMAIN,
    "postmaster": NO_DOMAIN,
    "user@": NO_DOMAIN,
    "user@.": NO_DOMAIN,
    "user@example..com": NO_DOMAIN,
    "user@.example.com": NO_DOMAIN,
    "user@exa mple.com": NO_DOMAIN,
    "user@example.com..": NO_DOMAIN,
    "user@" + "a." * 200 + "com": NO_DOMAIN,
    "user@bad\ufffddomain.example": NO_DOMAIN,
    '"quoted@inside.example"@example.com': "example.com",
    '"back\\"slash@inside.example"@example.com': "example.com",
    '"never closed@example.com': NO_DOMAIN,
    "first@second.example@example.com": "example.com",
    "@a.example,@b.example:user@example.com": "example.com",
    "@[IPv6:::1]:user@example.com": "example.com",
    "@a.example:postmaster": NO_DOMAIN,
    "user@[192.0.2.1]": "[192.0.2.1]",
    "user@[IPv6:2001:DB8::1]": "[ipv6:2001:db8::1]",
    "user@[192.0.2.1": NO_DOMAIN,
    "user@[a@b.example]": NO_DOMAIN,
    'user@["]': NO_DOMAIN,
    "user@[]": NO_DOMAIN,
    "user@[192.0.2.1] ": NO_DOMAIN,
    "user@[192.0.2.1][": NO_DOMAIN,
    "user%other.example@example.com": "example.com",
    "host!user@example.com": "example.com",
    "user\\@other.example@example.com": NO_DOMAIN,
    "user@other.example (x@example.com": NO_DOMAIN,
    "<user@other.example>@example.com": NO_DOMAIN,
    "us er@example.com": NO_DOMAIN,
    "user@other.example,user@example.com": NO_DOMAIN,
    "group:user@example.com": NO_DOMAIN,
    "@example.com": NO_DOMAIN,
}


@pytest.mark.parametrize(("address", "domain"), CASES.items())
def test_domain_of(address: str, domain: str) -> None:
    """The domain is what follows the last `@` outside quotes, in normal form; what is no domain is no domain."""
    assert domain_of(address) == domain


@given(st.text(max_size=300))
def test_any_text_has_an_answer(address: str) -> None:
    """Any text gives a domain in normal form or none, and the normal form is stable."""
    domain = domain_of(address)
    assert domain == NO_DOMAIN or domain_of(f"user@{domain}") == domain


PLAIN = [
    "user@example.com",
    "us.er+tag=other.example@example.com",
    '"us er"@example.com',
    '"us\\"er"@example.com',
    "user@bücher.example",
    "user@[192.0.2.1]",
    "@a.example,@b.example:user@example.com",
    "postmaster",
]
NOT_PLAIN = [
    "user%other.example@example.com",
    "other.example!user@example.com",
    "user@other.example@example.com",
    '"user@other.example"@example.com',
    '"user%other.example"@example.com',
    '"other.example!user"@example.com',
    "@a.example:user%other.example@example.com",
    "user%other.example",
    "other.example!user",
    "user\\%other.example@example.com",
    "user@other.example (x@example.com",
    "<user@other.example>@example.com",
    "user@example.com (x",
    "user@exa mple.com",
    '"user@other.example',
    "us er",
    "",
]


@pytest.mark.parametrize(("address", "plain"), [*((one, True) for one in PLAIN), *((one, False) for one in NOT_PLAIN)])
def test_is_plain(address: str, plain: bool) -> None:
    """An address is plain when no MTA could find a second domain in its local part, or end it elsewhere than we do."""
    assert (is_readable(address) and not has_route(address)) == plain


@given(st.text(alphabet='a@%!":\\., []<>()', max_size=40))
def test_a_plain_address_has_one_domain(address: str) -> None:
    """Of a plain address nothing is left, once its route and domain are taken off, that could name another domain."""
    if is_readable(address) and not has_route(address) and (domain := domain_of(address)):
        left = without_route(address).rpartition("@")[0]
        assert domain_of(f"user@{domain}") == domain
        assert not set(left) & set("@%!")


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("", ""),
        ("User@EXAMPLE.Com.", "User@example.com"),
        ("@a.example,@b.example:User@Example.com", "User@example.com"),
        ("user@b\u00fccher.example", "user@xn--bcher-kva.example"),
        ("gr\u00fcn@B\u00dcCHER.example", "gr\u00fcn@xn--bcher-kva.example"),
        ('"Quoted @ x"@EXAMPLE.com', '"Quoted @ x"@example.com'),
        ("first@second.example@EXAMPLE.com", "first@second.example@example.com"),
        ("user@[IPv6:2001:DB8::1]", "user@[IPv6:2001:db8::1]"),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("postMASTER", "Postmaster"),
        ("@a.example:postmaster", "Postmaster"),
        ("user@exa mple.COM", "user@exa mple.COM"),
        ('"never closed@EXAMPLE.com', '"never closed@EXAMPLE.com'),
    ],
)
def test_an_address_in_records(address: str, normal: str) -> None:
    """No source route, and the domain in lower case and A-labels; what cannot be read stays as it is."""
    assert normal_address(address) == normal


@pytest.mark.parametrize("read", [domain_of, normal_address])
def test_long_addresses_are_not_kept(read: Callable[[str], str]) -> None:
    """A report can name many addresses of some kilobytes: none of them stays in memory."""
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(300):
            read(f"{number}{'a' * 8000}@b{number}.example")
        assert tracemalloc.get_traced_memory()[0] < 500_000  # kept, 300 of them have 4 MB
    finally:
        tracemalloc.stop()
