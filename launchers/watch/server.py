"""The page on 127.0.0.1: three addresses, read-only, for this machine's browser alone.

There is no other path, so none can lead out of the sweep. A request that names another host is refused: a page of the
network could otherwise have a browser ask for it under a name of its own (DNS rebinding).
"""

import hashlib
import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from core.errors import BadInput
from core.reading import Unreadable, read_bytes
from launchers.watch.page import WatchPage, report_page

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
# A report may run its own script, which reaches nothing.
OF_A_REPORT = "; ".join(
    (
        "sandbox allow-scripts",
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
    )
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class WatchServer(ThreadingHTTPServer):
    """Serves the page of a sweep; many browsers cost one look at the logs in `every` seconds.

    Raises:
      BadInput: the port is taken, or not for this user.
    """

    daemon_threads = True

    def __init__(self, page: WatchPage, port: int, every: float):
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadInput(f"--port {port}: cannot be listened on ({why}); 0 takes a free one") from None
        self.page, self.every = page, every
        self._lock, self._at, self._state = threading.Lock(), -every, b""

    @property
    def address(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def whole(self) -> tuple[bytes, str]:
        """The page and its Content-Security-Policy."""
        with self._lock:
            html, policy = self.page.html(self.every)
        return html.encode(), policy

    def state(self) -> bytes:
        """The parts of the page as JSON."""
        with self._lock:
            if time.monotonic() - self._at >= 0.8 * self.every:
                self._state = json.dumps(dict(self.page.parts())).encode()
                self._at = time.monotonic()
            return self._state

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    server_version = "watch"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: what is asked for every few seconds is no news."""

    def _answer(self, with_body: bool) -> None:
        hosts = {f"{host}:{self.server.server_port}" for host in HOSTS}
        if self.server.server_port == 80:
            hosts |= set(HOSTS)
        if self.headers.get("Host") not in hosts:
            self._send(HTTPStatus.FORBIDDEN, b"another host\n", "text/plain", with_body=with_body)
        elif self.path == "/":
            html, policy = self.server.whole()
            self._send(HTTPStatus.OK, html, "text/html", policy, with_body=with_body)
        elif self.path == "/state":
            state = self.server.state()
            tag = f'"{hashlib.sha256(state).hexdigest()[:32]}"'
            same = self.headers.get("If-None-Match") == tag
            status = HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK
            self._send(status, b"" if same else state, "application/json", tag=tag, with_body=with_body)
        elif self.path == "/report.html" and (report := self._report()) is not None:
            self._send(HTTPStatus.OK, report, "text/html", OF_A_REPORT, with_body=with_body)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not here\n", "text/plain", with_body=with_body)

    def _report(self) -> bytes | None:
        path = report_page(self.server.page.directory)
        try:
            return None if path is None else read_bytes(path)
        except (FileNotFoundError, Unreadable):
            return None

    def _send(
        self,
        status: HTTPStatus,
        body: bytes,
        kind: str,
        policy: str = "default-src 'none'",
        tag: str = "",
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        lines = {**HEADERS, "Content-Security-Policy": policy, "Content-Length": str(len(body))}
        if status != HTTPStatus.NOT_MODIFIED:
            lines["Content-Type"] = f"{kind}; charset=utf-8"
        for name, value in (lines | ({"ETag": tag} if tag else {})).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)
