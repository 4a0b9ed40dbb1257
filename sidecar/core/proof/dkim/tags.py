"""Lists of `tag=value` pairs (RFC 6376 section 3.2), and values in base64."""

import binascii

from sidecar.core.proof.head import joined

_BLANKS = b" \t\r\n"
# A signature has some 12 tags, a record 5.
_TAG_LIMIT = 40


def read_tags(text: bytes) -> dict[bytes, bytes] | None:
    """Return the tags of a list with their values, which have no white space around them. None if it is no list of tags.

    A tag that stands twice makes the whole list invalid.
    """
    tags: dict[bytes, bytes] = {}
    pairs = text.rstrip(_BLANKS).removesuffix(b";").split(b";", _TAG_LIMIT)
    for pair in pairs:
        name, equals, value = pair.partition(b"=")
        name = name.strip(_BLANKS)
        if not equals or name in tags or not name.replace(b"_", b"").isalnum():
            return None
        tags[name] = value.strip(_BLANKS)
    return tags


def words(value: bytes) -> set[bytes]:
    """Return the words of a list with colons, in lower case."""
    return {word.strip(_BLANKS).lower() for word in value.split(b":")}


def from_base64(value: bytes) -> bytes | None:
    """Return a value without its base64, in which white space can be anywhere; None if it is no base64."""
    try:
        return binascii.a2b_base64(joined(value), strict_mode=True)
    except binascii.Error:
        return None
