"""Forms: a complete body to fields and files, in memory."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from sidecar.core.text import in_units
from sidecar.daemon.http.bodies import BODY_LIMIT

# A form of the console has ten at most.
_FIELDS: Final = 50
# Large texts and files are sent as multipart/form-data. Decoding takes up to 90 times the size in memory.
_ENCODED_LIMIT: Final = 256 * 1024


class Form:
    """The fields of a form; a name that appears again replaces the earlier one. `files` has the bytes of chosen files."""

    def __init__(self, fields: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        self.fields = fields
        self.files = files

    def get(self, name: str) -> str:
        """Return a field without blanks around it; "" if it is missing."""
        return self.fields.get(name, "").strip()

    def text(self, name: str) -> str:
        """Return a field as it was typed, with the line ends of a file."""
        return self.fields.get(name, "").replace("\r\n", "\n")


def read_form(headers: Headers, body: bytes) -> Form:
    """Read a form. Raise HTTPException."""
    kind, options = parse_options_header(headers.get("content-type", ""))
    try:
        if kind == b"application/x-www-form-urlencoded":
            if len(body) > _ENCODED_LIMIT:
                raise HTTPException(413, f"The form has more than {in_units(_ENCODED_LIMIT)}.")
            text = body.decode("ascii")
            return Form(dict(parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_FIELDS)), {})
        if kind == b"multipart/form-data":
            return _multipart(body, options.get(b"boundary"))
    except (FormParserError, ValueError) as error:
        raise HTTPException(400, f"The form cannot be read: {error}.") from error
    raise HTTPException(400, "The body is not a form.")


def _multipart(body: bytes, boundary: bytes | None) -> Form:
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}

    def check_number() -> None:
        if len(fields) + len(files) >= _FIELDS:
            raise ValueError("it has too many fields")

    def on_field(field: Field) -> None:
        check_number()
        fields[_name(field.field_name)] = (field.value or b"").decode("utf-8", "replace")

    def on_file(file: File) -> None:
        check_number()
        file.file_object.seek(0)
        if content := file.file_object.read():
            files[_name(file.field_name)] = content

    # Never a temporary file: the body is in memory already.
    config = {"MAX_MEMORY_FILE_SIZE": BODY_LIMIT + 1}
    parser = FormParser("multipart/form-data", on_field, on_file, boundary=boundary, config=config)
    parser.write(body)
    parser.finalize()
    return Form(fields, files)


def _name(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")
