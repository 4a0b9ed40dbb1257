"""What one SMTP client sends, as the packets that Postfix makes of it, and its size in bytes of SMTP.

Owns the packets. Never knows what they cost.
"""

import struct

from sidecar.core.session.events import Body, EndOfHeaders, Header, content_events
from tests.wire.client import ACTIONS, STEPS, VERSION

EXTERNAL = b"203.0.113.9"
# No packet of the milter protocol is longer.
_PAYLOAD = 65_000


class Wire:
    """A milter connection that is being written. `sent` counts the bytes of SMTP behind `packets`."""

    def __init__(self, peer: bytes = EXTERNAL) -> None:
        self.packets = bytearray()
        self.sent = self.messages = self.recipients = 0
        self._packet(b"O", struct.pack("!III", VERSION, ACTIONS, STEPS))
        self._packet(b"D", b"C{daemon_addr}\x0010.1.1.1\0{daemon_port}\x0025\0")
        self._packet(b"C", b"peer.example\x004" + struct.pack("!H", 4444) + peer + b"\0")
        self._packet(b"H", b"peer.example\0", b"EHLO ")

    def envelope(self, *recipients: bytes, sender: bytes = b"") -> "Wire":
        """Begin a message."""
        self.messages += 1
        self._packet(b"M", b"<%b>\0" % sender, b"MAIL FROM:")
        for recipient in recipients:
            self.recipient(recipient)
        return self

    def recipient(self, address: bytes) -> "Wire":
        """Name one more recipient."""
        self.recipients += 1
        self._packet(b"R", b"<%b>\0" % address, b"RCPT TO:")
        return self

    def content(self, message: bytes) -> "Wire":
        """Send a whole message, its header section read as Postfix reads it."""
        self.data()
        for event in content_events(message):
            if isinstance(event, Header):
                self.header(event.name, b" " + event.value)
            elif isinstance(event, EndOfHeaders):
                self._packet(b"N")
            elif isinstance(event, Body):
                self._packet(b"B", event.chunk)
                self.sent += len(event.chunk)
            else:
                self._packet(b"E")
                self.sent += 2
        return self

    def header(self, name: bytes, value: bytes) -> "Wire":
        """Send one header field; Postfix tells the queue id before each."""
        self._packet(b"D", b"Li\x004dKfVc2Qtzz1b\0")
        self._packet(b"L", (name + b"\0" + value)[:_PAYLOAD] + b"\0")
        self.sent += len(name) + len(value) + 3
        return self

    def data(self) -> "Wire":
        """Say DATA; header fields follow."""
        self._packet(b"T", b"", b"DATA")
        return self

    def end(self) -> "Wire":
        """End the header section, and the message."""
        self._packet(b"N")
        self._packet(b"E", b"", b"\r\n.")
        return self

    def _packet(self, letter: bytes, payload: bytes = b"", command: bytes | None = None) -> None:
        self.packets += struct.pack("!I", len(payload) + 1) + letter + payload
        if command is not None:
            self.sent += len(command) + len(payload) + 1
