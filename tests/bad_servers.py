"""Servers that are no MLflow: silent, broken, or of somebody else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

PAGE = b"<html>Welcome to the coffee machine</html>"


def _answer(status: str, body: bytes = b"{}", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


ANSWERS = {
    "silent": None,
    "broken": _answer("500 Internal Server Error"),
    "wants a password": _answer("401 Unauthorized", b"", 'WWW-Authenticate: Basic realm="x"\r\n'),
    "is no MLflow": _answer("200 OK", PAGE),
    "speaks no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
}
"""What each kind sends to any request; None: nothing, for ever."""


@contextlib.contextmanager
def serve(kind: str) -> Iterator[str]:
    """A server of a kind, at the host:port that is given, until the block ends."""
    answer, held = ANSWERS[kind], []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    with contextlib.suppress(OSError):
                        connection.recv(2**16)
                        connection.sendall(answer)
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()
