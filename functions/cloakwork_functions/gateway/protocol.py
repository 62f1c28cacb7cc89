"""uvicorn's protocol with a bound on the request line and headers, which httptools alone does not have."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedHeadProtocol"]

HEAD_BYTES = 64 << 10
REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeadProtocol(HttpToolsProtocol):
    """Hangs up on a client whose headers do not end."""

    _head: int | None = None  # bytes of a head that has not ended; None between heads

    def on_message_begin(self) -> None:
        """Begin a request line."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head; what follows is body, and the application bounds that."""
        self._head = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read what came, and count it while the head has not ended."""
        super().data_received(data)
        if self._head is None:
            return
        self._head += len(data)
        if self._head > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(REFUSAL)
            self.transport.close()
