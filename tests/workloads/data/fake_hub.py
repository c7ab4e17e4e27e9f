"""A Hugging Face Hub on this machine: the answers that listing and downloading a dataset need, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves the files of a folder as dataset and as model `someone/data` at one commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault: tuple[int, str] | None = None
        """Status and X-Error-Code of every answer."""
        self.fail_after: int | None = None
        """Files that come before the connection breaks."""
        self.asked: list[str] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlparse(handler.path).path)
        self.asked.append(f"{handler.command} {path}")
        if self.fault:
            return self._send(handler, self.fault[0], b"{}", {"X-Error-Code": self.fault[1]})
        if path.startswith(("/api/datasets/someone/data/tree/", "/api/models/someone/data/tree/")):
            tree = [{"type": "file", "path": p.relative_to(self.folder).as_posix(), "size": p.stat().st_size,
                     "oid": _digest(p)[:40]} for p in sorted(self.folder.rglob("*")) if p.is_file()]
            return self._send(handler, 200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        file = self.folder / path.removeprefix("/datasets").removeprefix(f"/someone/data/resolve/{COMMIT}/")
        if not file.is_file():
            return self._send(handler, 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        if handler.command == "GET" and self.fail_after is not None:
            self.fail_after -= 1
            if self.fail_after < 0:
                return self._send(handler, 500, b"{}", {})
        return self._send(handler, 200, file.read_bytes(), {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT})

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[str]:
    """Serve on the loopback; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
