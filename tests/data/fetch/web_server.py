"""A web server on this machine for a folder, with the faults of real ones."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LONG = 200_000


@dataclass
class Server:
    """has_ranges: honours Range, and says so. drop_after: bytes of a body after which it closes the connection, None: never.
    num_busy: so many further requests get 503. head_status: of every answer to HEAD. held: long bodies of files of these names
    wait until the event, tables do not. `sent`: bytes of bodies by path; `ranges`: (path, first byte) of each GET.
    """

    folder: Path
    address: str = ""
    has_ranges: bool = True
    has_etag: bool = True
    drop_after: int | None = None
    num_busy: int = 0
    head_status: int = 200
    held: dict[str, threading.Event] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    ranges: list[tuple[str, int]] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serves a folder until the block ends."""
    server = Server(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, with_body: bool) -> None:
            path = folder / self.path.lstrip("/").partition("?")[0]
            if server.num_busy > 0:
                server.num_busy -= 1
                return self._refuse(503)
            if not with_body and server.head_status != 200:
                return self._refuse(server.head_status)
            if not path.is_file():
                return self._refuse(404)
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:12]}"'
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            is_same = self.headers.get("If-Range", etag) == etag
            start, end = 0, len(content)
            if server.has_ranges and wanted and is_same:
                start, end = int(wanted[1]), min(int(wanted[2]) + 1, end)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
            else:
                self.send_response(200)
            if server.has_ranges:
                self.send_header("Accept-Ranges", "bytes")
            if server.has_etag:
                self.send_header("ETag", etag)
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if with_body:
                self._send(path.name, content[start:end], start)
            return None

        def _send(self, name: str, body: bytes, start: int) -> None:
            server.ranges.append((name, start))
            if name in server.held and len(body) > _LONG:
                server.held[name].wait(60)
            is_cut = server.drop_after is not None and len(body) > server.drop_after
            body = body[: server.drop_after] if is_cut else body
            server.sent[name] = server.sent.get(name, 0) + len(body)
            try:
                self.wfile.write(body)
            except OSError:  # the reader has gone
                is_cut = True
            if is_cut:
                self.close_connection = True

        def _refuse(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.daemon_threads = True
        server.address = f"http://127.0.0.1:{web.server_port}"
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            for event in server.held.values():
                event.set()
            web.shutdown()
            thread.join()
