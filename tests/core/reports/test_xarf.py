"""X-ARF: the fields of the attachment of a feedback report."""

import base64

import pytest

from sidecar.core.reports.reading import read
from tests.core.reports.shapes import FEEDBACK

XARF = FEEDBACK.replace(b"abuse", b"xarf")
JSON = (
    b'{"Version": "3", "Report": {"Type": "Spam", "SourceIp": "198.51.100.2", "Ports": [25, 587], "None": null, "Sure": true}}'
)
OF_JSON = {
    "version": ["3"],
    "report.type": ["Spam"],
    "report.sourceip": ["198.51.100.2"],
    "report.ports": ["25", "587"],
    "report.sure": ["true"],
}
YAML = b"---\nReport-Type: login-attack\nSource: 198.51.100.2\nSource-Type: ipv4\n"
OF_YAML = {"report-type": ["login-attack"], "source": ["198.51.100.2"], "source-type": ["ipv4"]}


def extensions(report: bytes, *parts: tuple[bytes, bytes]) -> dict[str, list[str]]:
    """Return the extensions of a report with attachments: header section and body of each."""
    attached = (b"--b\n" + head + b"\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(body) for head, body in parts)
    reading = read(report + b"\n" + b"".join(attached)).arf
    assert reading is not None
    return dict(reading.extensions)


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        *(
            (b"Content-Type: application/" + kind, JSON, OF_JSON)
            for kind in (b"json", b"JSON; name=x", b"xarf+json", b"vnd.x+json")
        ),
        (b"Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=xarf.json", JSON, OF_JSON),
        (b"Content-Type: text/plain; name=xarf.json", b"\n " + JSON, OF_JSON),
        (b"Content-Type: application/json", b"\xef\xbb\xbf" + JSON, OF_JSON),
        (b"Content-Type: application/json; charset=utf-16", JSON.decode().encode("utf-16"), OF_JSON),
        (b"Content-Type: application/json; charset=utf-16le", JSON.decode().encode("utf-16-le"), OF_JSON),
        *(
            (b"Content-Type: " + kind, YAML, OF_YAML)
            for kind in (b"text/yaml", b"application/x-yaml", b"text/plain; name=a.YML")
        ),
        (b"Content-Type: text/plain; name=report.txt", YAML, OF_YAML),
        (b"Content-Type: text/x-yaml", YAML.removeprefix(b"---\n"), OF_YAML),
        (b"Content-Type: text/plain", b"Source: 198.51.100.2\n", {}),
        (b"Content-Type: application/json", JSON[:-2], {}),
        (b"Content-Type: application/json", b"[" + JSON + b"]", {}),
        (b"Content-Type: message/rfc822", JSON, {}),
    ],
)
def test_attachment(head: bytes, body: bytes, expected: dict[str, list[str]]) -> None:
    """JSON and YAML are found by type, name or first bytes; the text for people and the returned message are neither."""
    assert extensions(XARF, (b"Content-Type: text/plain", b"Spam from you.\n"), (head, body)) == expected
    assert extensions(XARF.replace(b"xarf", b"X-ARF"), (head, body)) == expected
    assert extensions(FEEDBACK, (head, body)) == {}


def test_first_attachment() -> None:
    """The first attachment that can be read counts, and the fields of the report itself count more."""
    broken, good = (b"Content-Type: application/json", JSON[:-2]), (b"Content-Type: application/json", JSON)
    assert extensions(XARF, broken, good, (b"Content-Type: text/yaml", YAML)) == OF_JSON
    assert extensions(XARF.rstrip() + b"\nVersion: 1\nReport.Type: own\n", good)["report.type"] == ["own"]
