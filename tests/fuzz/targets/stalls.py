"""Time: a shape found by the fuzzer, blown up, is read and judged in a time that a peer cannot stretch.

Owns the blowing up and the stop-watch. Never looks at the answer. An input is `head, piece, tail`, parted by two bytes 255; the
piece is repeated until the message has its size.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

from sidecar.core.reports.reading import read
from sidecar.core.session.events import Data, content_events
from tests.building import entry, settings
from tests.core.session.driving import envelope, hello, play, session
from tests.fuzz.corpus import mails

_PART = b"\xff\xff"
_SIZE = 256 * 1024
_FULL_SIZE = 1 << 20

# A megabyte of the worst that is known takes 40 ms. Here, with instrumentation, a quarter of it is suspicious if it takes too
# long, or much longer than its own quarter does; that is measured again at full size, by a process that counts no lines.
_SUSPICIOUS = 0.08
_GROWTH = 6
_NOISE = 0.01
_LIMIT = 0.1
# Each header field is an event of its own, and costs a call in the session however short it is.
_EVENT = 10e-6

_HEAD = b"Content-Type: multipart/report; report-type=feedback-report; boundary=b"
_STATUS = _HEAD + b"\n\n--b\nContent-Type: message/delivery-status"
_FEEDBACK = _HEAD + b"\n\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n"
_SHAPES = (
    (b"", b"a:b\n", _HEAD),
    (b"", b"content-type\n", _HEAD),
    (_HEAD + b"\n\n--b\n", b"content-transfer-encoding\n", b"\n"),
    (_HEAD + b"\n\n", b"--b\n", b""),
    (_HEAD + b"; ", b'a="\\', b""),
    (_HEAD + b"; ", b"(", b""),
    (_HEAD + b"; boundary*0=", b"x", b"\n\n--b\n"),
    (_STATUS + b"\n\n", b"Final-Recipient: rfc822; a@b\nAction: failed\n\n", b""),
    (_STATUS + b"\n\na:", b" \n b", b""),
    (_STATUS + b"\n\na: ", b"=?utf-8?q?=41?= ", b""),
    (_STATUS + b"\nContent-Transfer-Encoding: base64\n\n", b"YTpiCg==\n", b""),
    (_STATUS + b"\nContent-Transfer-Encoding: quoted-printable\n\n", b"=\n", b""),
    (_FEEDBACK, b"Arrival-Date: Thu, 2 Jul 2026 18:55:38 (((\n", b""),
    (_FEEDBACK + b"\n--b\nContent-Type: message/rfc822\n\n", b"X-KumoRef: eyJfQF8iOiJcXF8vIn0=\n", b""),
)
_SETTINGS = settings([entry("both.example", log_oob="LogThenDrop", log_arf="LogThenDrop")], headers=("subject", "received"))


def seeds() -> Iterator[bytes]:
    """Give shapes known to be hard, and every sample mail with a piece of it to repeat."""
    for shape in _SHAPES:
        yield _PART.join(shape)
    for mail in mails():
        third = len(mail) // 3
        yield _PART.join((mail[:third], mail[third : third + 100], mail[third + 100 :]))


def check(data: bytes) -> None:
    """Check the time one shape takes."""
    if _excess(data, _SIZE) > min(_SUSPICIOUS, _GROWTH * _excess(data, _SIZE // 4) + _NOISE):
        again = subprocess.run([sys.executable, "-m", __name__], input=data, capture_output=True, check=False)
        assert again.returncode == 0, again.stderr.decode()


def _excess(data: bytes, size: int) -> float:
    """Give the seconds of processor time that a message takes beyond what its header fields may cost."""
    message = _blown_up(data, size)
    events = list(content_events(message))
    start = time.process_time()
    read(message)
    read_in = time.process_time() - start
    start = time.process_time()
    play(session(_SETTINGS), [*hello(), *envelope(["t@both.example"]), Data(), *events])
    return max(read_in, time.process_time() - start - _EVENT * len(events))


def _blown_up(data: bytes, size: int) -> bytes:
    head, piece, tail = (*data.split(_PART, 2), b"", b"")[:3]
    return head + piece * (max(0, size - len(head) - len(tail)) // max(1, len(piece))) + tail


if __name__ == "__main__":
    shape = sys.stdin.buffer.read()
    took = min(_excess(shape, _FULL_SIZE) for _ in range(3))
    sys.exit(None if took <= _LIMIT else f"a megabyte took {took:.3f} s of processor time")
