"""A WebSocket (RFC 6455), as much of it as talking with a program needs.

Messages may be sent by another thread than the one that receives.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
import threading

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

TEXT, BINARY = 1, 2
_CLOSE, _PING, _PONG = 8, 9, 10

#: Most bytes of one frame: a message is sent in pieces of this.
_PIECE = 1 << 16


def new_key() -> str:
    """What a handshake asks to be proven."""
    return base64.b64encode(os.urandom(16)).decode()


def proof(key: str) -> str:
    """What proves that the other side took a key for a WebSocket's."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


class WebSocket:
    """A connection whose handshake is done."""

    def __init__(
        self, connection: http.client.HTTPConnection, reply: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._socket: socket.socket = connection.sock
        # What came along with the reply is in its buffer.
        self._incoming = reply.fp
        self._sending = threading.Lock()
        #: Why the other side closed, once it has.
        self.farewell = ""

    def send(self, opcode: int, message: bytes) -> None:
        """Sends a message, or as many as its length asks for where it is a binary one."""
        pieces = [message]
        if opcode == BINARY:
            pieces = [message[at : at + _PIECE] for at in range(0, len(message), _PIECE)]
        for piece in pieces:
            self._send(opcode, piece)

    def receive(self) -> bytes | None:
        """The next message; none when the other side has closed."""
        message = bytearray()
        while True:
            final, opcode, payload = self._frame()
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode == _CLOSE:
                self.farewell = payload[2:].decode(errors="replace")
                self._send(_CLOSE, payload[:2])
                return None
            elif opcode != _PONG:
                message += payload
                if final:
                    return bytes(message)

    def close(self) -> None:
        """Hangs up."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was faster.
        self._connection.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            size = bytes([0x80 | length])
        elif length < 1 << 16:
            size = bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else:
            size = bytes([0x80 | 127]) + length.to_bytes(8, "big")
        mask = os.urandom(4)
        frame = bytes([0x80 | opcode]) + size + mask + _masked(payload, mask)
        with self._sending:
            self._socket.sendall(frame)

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        if second & 0x80:
            raise ConnectionError("a server does not mask")
        return bool(first & 0x80), first & 0x0F, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        found = self._incoming.read(length)
        if len(found) < length:
            raise ConnectionError("the connection broke")
        return found


def _masked(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(length, "big")
