"""Public keys from files: the name of a file says selector and domain, its content is PEM or the text of the DNS record."""

import re

from sidecar.core.names import normal_domain
from sidecar.core.proof.dkim.crypto import from_pem, from_record
from sidecar.core.proof.dkim.signature import from_base64, read_tags, words
from sidecar.core.proof.values import plain
from sidecar.core.settings.keys import PublicKey

CONTENT_LIMIT = 16 * 1024
"""Bytes of a key file: an RSA key of 4096 bits has 800."""

ENDINGS = (".pem", ".txt")
"""What a file's name can have after the domain: no top-level domain has these names."""
_NAME = re.compile(r"(?P<selector>[A-Za-z0-9._-]+)\._domainkey\.(?P<domain>.+)", re.ASCII | re.IGNORECASE)
# As opendkim-genkey and rspamadm write it: NAME IN TXT ( "..." "..." ) ; comment
_QUOTED = re.compile(rb'"([^"]*)"')

_NOT_A_KEY = "it is neither a public key in PEM nor the text of a DKIM record (v=DKIM1; k=...; p=...)"


def read_key(name: str, content: bytes) -> PublicKey | str:
    """Read the file `SELECTOR._domainkey.DOMAIN`. Return what is wrong, and how to fix it, if it is no key."""
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    named = _NAME.fullmatch(name)
    domain = None if named is None else normal_domain(named["domain"])
    if named is None or domain is None or "*" in domain:
        return "its name is not SELECTOR._domainkey.DOMAIN, such as s1._domainkey.example.com"
    if len(content) > CONTENT_LIMIT:
        return f"it has more than {CONTENT_LIMIT} bytes"
    tags = {} if b"-----BEGIN" in content else read_tags(b"".join(_QUOTED.findall(content)) or content) or {}
    if fault := _content_fault(content, tags):
        return fault
    # Always base64: `_content_fault` has checked it.
    key = from_record(tags.get(b"k", b"rsa"), from_base64(tags[b"p"]) or b"") if tags else from_pem(content)
    if isinstance(key, str):
        return key
    strict = b"s" in words(tags.get(b"t", b""))
    return PublicKey(selector=named["selector"].lower(), domain=domain, algorithm=key[0], der=key[1], strict=strict)


def _content_fault(content: bytes, tags: dict[bytes, bytes]) -> str | None:
    if b"PRIVATE KEY-----" in content:
        return "it is a private key; write the public key: openssl pkey -in PRIVATE -pubout"
    if b"-----BEGIN" in content:
        return None
    if b"p" not in tags:
        return _NOT_A_KEY
    return _record_fault(tags)


def _record_fault(tags: dict[bytes, bytes]) -> str | None:
    """Return why a record (RFC 6376 section 3.6.1) has no key for mail; None if it has one."""
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        return f"its v= is {plain(tags[b'v'])}, not DKIM1"
    if not tags[b"p"]:
        return "its p= is empty: the key was revoked; remove the file"
    if not words(tags.get(b"s", b"*")) & {b"*", b"email"}:
        return f"its s= is {plain(tags[b's'])}: the key is not for mail"
    if b"sha256" not in words(tags.get(b"h", b"sha256")):
        return f"its h= is {plain(tags[b'h'])}, without sha256"
    return "its p= is not base64" if from_base64(tags[b"p"]) is None else None
