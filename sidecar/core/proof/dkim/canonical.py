"""Canonical forms of header fields and bodies (RFC 6376 section 3.4), from text with LF line ends. All take linear time."""

import re

_RUN = re.compile(rb"[ \t]+")
# Searched behind a semicolon: an expression that begins with a fixed byte is twice as fast.
_B_TAG = re.compile(rb";[ \t\n]*+b[ \t\n]*+=")


def simple_field(raw: bytes) -> bytes:
    """Return a header field as it is, with CRLF line ends, without the last one."""
    return raw.replace(b"\n", b"\r\n")


def relaxed_field(raw: bytes) -> bytes:
    """Return a header field unfolded, its name in lower case, with one space for each run of white space."""
    name, _, value = raw.partition(b":")
    value = value.replace(b"\n", b"")
    # Few fields have a run, and the search for one takes longer than all else.
    if b"  " in value or b"\t" in value:
        value = _RUN.sub(b" ", value)
    return b"%b:%b" % (name.rstrip(b" \t").lower(), value.strip(b" "))


def simple_body(body: bytes) -> bytes:
    """Return a body without empty lines at its end."""
    return body.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def relaxed_body(body: bytes) -> bytes:
    """Return a body without empty lines at its end and white space at line ends; one space for each other run."""
    text = _RUN.sub(b" ", body).replace(b" \n", b"\n").removesuffix(b" ").rstrip(b"\n")
    return text.replace(b"\n", b"\r\n") + b"\r\n" if text else b""


def unsigned(raw: bytes) -> bytes:
    """Return a DKIM-Signature field with an empty value of its `b=`."""
    name, colon, value = raw.partition(b":")
    value = b";" + value
    found = _B_TAG.search(value)
    if found is None:
        return raw
    end = value.find(b";", found.end())
    return b"%b%b%b%b" % (name, colon, value[1 : found.end()], b"" if end < 0 else value[end:])
