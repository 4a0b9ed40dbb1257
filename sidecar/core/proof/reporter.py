"""Which domains authenticated the report itself: Authentication-Results of trusted hosts (RFC 8601).

Only the first field of each trusted authserv-id counts: the receiving MTA adds its own on top, and what a sender wrote stands
below. The MTA must remove fields of its own id from incoming mail (RFC 8601 section 5).
"""

import re

from sidecar.core.names import normal_domain
from sidecar.core.proof.head import fields, value_of
from sidecar.core.proof.values import Reporter
from sidecar.core.reports.mime import split_message
from sidecar.core.reports.original import HEAD_LIMIT

VALUE_LIMIT = 4 * 1024
"""Bytes of a field that are read: results for ten signatures."""
_RESULTS_LIMIT = 32
_FIELD = b"authentication-results"
# Quoted strings, parentheses, escapes; what is between them is plain.
_PIECE = re.compile(r'"(?>(?:[^"\\]++|\\.)*)"?|\\.|[()]|[^"()\\]++|\\', re.DOTALL)
# A value can be empty: `smtp.mailfrom= smtp.helo=mx.example.com`.
_EQUALS = re.compile(r" ?+= ?+(?![\w.-]++ ?+=)| ?+=")
_AUTHSERV = re.compile(r"\s*+([^\s;=]++)(?>(?:\s++[0-9]++)?)\s*+")


def read_reporter(report: bytes, authserv_ids: tuple[str, ...]) -> Reporter | None:
    """Return what the first trusted host with a result says about a report; lines end with CRLF or LF."""
    if not authserv_ids:
        return None
    head, _ = split_message(report[:HEAD_LIMIT])
    if _FIELD not in head.lower():
        return None
    return _reporter(fields(head.replace(b"\r\n", b"\n")).get(_FIELD, []), authserv_ids)


def _reporter(written: list[bytes], authserv_ids: tuple[str, ...]) -> Reporter | None:
    seen: set[str] = set()
    for raw in written:
        identifier, *results = _pieces(value_of(raw))
        named = _AUTHSERV.fullmatch(identifier)
        host = "" if named is None else named[1].lower()
        if host not in authserv_ids or host in seen:
            continue
        seen.add(host)
        passed = [one for one in map(_passed, results) if one is not None]
        if passed:
            dkim = dict.fromkeys(domain for method, domain in passed if method == "dkim")
            spf = next((domain for method, domain in passed if method == "spf"), None)
            return Reporter(authserv_id=host, dkim=tuple(dkim), spf=spf)
    return None


def _pieces(value: bytes) -> list[str]:
    """Return the authserv-id and the results of a field, up to the limits. Of a longer one, the last piece may lack its end."""
    pieces = _plain(value[:VALUE_LIMIT].decode("utf-8", "replace")).split(";", _RESULTS_LIMIT + 1)
    is_cut = len(value) > VALUE_LIMIT or len(pieces) > _RESULTS_LIMIT + 1
    return (pieces[:-1] if is_cut else pieces) or [""]


def _plain(value: str) -> str:
    """Return a value without comments, also nested ones; a quoted string keeps only what is no separator."""
    kept: list[str] = []
    depth = 0
    for found in _PIECE.finditer(value):
        piece = found[0]
        if piece == "(":
            depth += 1
        elif piece == ")":
            depth = max(0, depth - 1)
        elif not depth:
            kept.append(re.sub(r'[\s;="\\]', "", piece) if piece.startswith('"') else piece)
        if piece == ")" and not depth:
            kept.append(" ")
    return "".join(kept)


def _passed(result: str) -> tuple[str, str] | None:
    """Return the method and the domain of `dkim=pass header.d=example.com`; None for other results."""
    words = _EQUALS.sub("=", " ".join(result.split())).split(" ")
    method, _, outcome = words[0].lower().partition("=")
    method = method.partition("/")[0]
    if outcome != "pass" or method not in _PROPERTIES:
        return None
    values = dict(reversed([(name.lower(), value) for name, _, value in (word.partition("=") for word in words[1:])]))
    found = next((values[name] for name in _PROPERTIES[method] if values.get(name)), "")
    domain = normal_domain(found.rpartition("@")[2])
    return None if domain is None else (method, domain)


_PROPERTIES = {
    "dkim": ("header.d", "header.i"),
    "spf": ("smtp.mailfrom", "smtp.helo"),
}
