"""What addresses look like, as regular expressions that every reader of the OpenAPI document understands.

Owns how they are described. Never decides what is one: the settings' names do.
"""

from typing import Final

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_GROUP: Final = "[0-9A-Fa-f]{1,4}"
# RFC 4291 section 2.2: eight groups; or fewer, and `::` for those left out; or the end as IPv4.
_SHORTENED: Final = (
    f"{'' if before else ':'}(?:{_GROUP}:){{{before}}}:(?:{_GROUP}(?::{_GROUP}){{0,{6 - before}}})?" for before in range(7)
)
_IPV6: Final = "|".join((f"(?:{_GROUP}:){{7}}(?:{_GROUP}|:)", *_SHORTENED, f"::(?:[Ff]{{4}}:)?{_IPV4}"))
_PORT: Final = "(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

LISTENER: Final = rf"^(?:{_IPV4}|\[(?:{_IPV6})\]):{_PORT}$"
PEER: Final = rf"^(?:{_IPV4}(?::{_PORT})?|\[(?:{_IPV6})\](?::{_PORT})?|{_IPV6})$"
BASE64: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
