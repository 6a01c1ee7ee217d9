"""A server that answers with bytes as they are: whatever a broken or malicious service may send."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class RawServer:
    """Answer each request with what `answer` returns, and close the connection; a context manager."""

    answer: Callable[[Asked], bytes]
    seen: list[Asked] = field(default_factory=list)

    def __enter__(self) -> RawServer:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(65536)
                if not received:
                    return
                head += received
            first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            parts = urlsplit(first.split(" ")[1])
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = dict(line.split(": ", 1) for line in lines)
            asked = Asked(parts.path, query, headers)
            self.seen.append(asked)
            connection.sendall(self.answer(asked))


def response(body: bytes, *headers: str | bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return an answer with a body and further header lines."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    encoded = [line if isinstance(line, bytes) else line.encode() for line in (*lines, *headers)]
    return b"\r\n".join(encoded) + b"\r\n\r\n" + body
