"""The HTTP server of the stand-in: routing, injected faults, and the counters that judge a client's manners."""

from __future__ import annotations

import email.utils
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from standin import bricks, hips, sdss, viewer
from standin.answers import Answer, html
from standin.sky import Sky


@dataclass(frozen=True)
class Request:
    """One request as the server got it; `query` holds the last value of each parameter."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Fault:
    """Something that goes wrong in the next `times` requests (None: in all) for which `when` is true.

    `kind` is a status (``"429"``, ``"500"``, ``"502"``, ``"503"``, ``"504"``) or ``retry-after-seconds``,
    ``retry-after-date`` (429 with the header, `value` seconds ahead), ``reset``, ``half`` (full Content-Length, half
    the body), ``chunked`` (no length, early end), ``unsized`` (no length at all, early end), ``short`` (half the body
    and a Content-Length to match), ``drip`` (a byte every `value` seconds), ``html`` (a page that says it is FITS),
    ``error-message`` (an error that says it is CSV), ``elsewhere`` (the cutout of another place), ``empty``,
    ``redirect`` and ``redirect-host``.
    """

    kind: str
    when: Callable[[Request], bool] = lambda request: True
    times: int | None = 1
    value: float = 1.0


@dataclass
class Seen:
    """What the clients did."""

    arrivals: list[float] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    served: Counter = field(default_factory=Counter)  # target -> times that a good answer was sent in full
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0

    def most_in_a_second(self) -> int:
        """Return the largest number of requests that arrived within any one second."""
        times = sorted(self.arrivals)
        most = start = 0
        for end, moment in enumerate(times):
            while moment - times[start] >= 1.0:
                start += 1
            most = max(most, end - start + 1)
        return most

    def repeats(self) -> int:
        """Return how many good answers were sent again."""
        return sum(count - 1 for count in self.served.values())

    def count(self, text: str) -> int:
        """Return how many requests had `text` in their target."""
        return sum(text in request.target for request in self.requests)


class StandIn:
    """All services on one loopback port; a context manager.

    Parameters
    ----------
    sky : Sky
    latency : float
        Seconds that every answer takes.
    frame_shape : (int, int)
        Rows and columns of an SDSS frame (the real ones are (1489, 2048); tests take smaller ones).
    """

    def __init__(self, sky: Sky | None = None, *, latency: float = 0.0, port: int = 0, frame_shape=(1489, 2048)):
        self.sky = sky or Sky()
        self.latency = latency
        self.seen = Seen()
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self.routes = [
            ("/viewer", viewer.Viewer(self.sky)),
            ("/cfs/cosmo/data/legacysurvey", bricks.Bricks(self.sky)),
            ("/hips-image-services", hips.Hips(self.sky)),
            ("/MocServer", hips.Hips(self.sky)),
            ("/sas", sdss.Sdss(self.sky, frame_shape)),
            ("/dr17", sdss.Sdss(self.sky, frame_shape)),
        ]
        self._server = _Server(("127.0.0.1", port), self)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def inject(self, kind: str, times: int | None = 1, *, when=lambda request: True, value: float = 1.0) -> None:
        """Make the next `times` matching requests (None: all) go wrong."""
        with self._lock:
            self.faults.append(Fault(kind, when, times, value))

    def forget(self) -> None:
        """Start counting anew."""
        self.seen = Seen()

    def fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times != 0 and fault.when(request):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def answer(self, request: Request) -> Answer:
        for prefix, service in self.routes:
            if request.path.startswith(prefix):
                return service.answer(request, request.path[len(prefix) :])
        return html(404, "<h1>Not Found</h1>")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, stand_in: StandIn):
        self.stand_in = stand_in
        super().__init__(address, _Handler)

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are what many of the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 30
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.stand_in.seen.connections += 1

    def log_message(self, *args: object) -> None:
        """The counters are the log."""

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def _handle(self) -> None:
        stand_in = self.server.stand_in
        seen = stand_in.seen
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        request = Request(self.command, self.path, parts.path, query, dict(self.headers), body)
        with stand_in._lock:
            seen.arrivals.append(time.monotonic())
            seen.requests.append(request)
            seen.agents.add(self.headers.get("User-Agent", ""))
            seen.in_flight += 1
            seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
        # A client may send its next request the moment it has the last byte, so a request stops counting as in
        # flight just before that byte is sent.
        left = threading.Event()

        def leave() -> None:
            if not left.is_set():
                left.set()
                with stand_in._lock:
                    seen.in_flight -= 1

        due = time.monotonic() + stand_in.latency
        try:
            fault = stand_in.fault_for(request)
            answer = stand_in.answer(request) if fault is None else None
            time.sleep(max(0.0, due - time.monotonic()))
            if answer is not None:
                self._send(answer, leave)
                if answer.status == 200:
                    with stand_in._lock:
                        seen.served[self.path] += 1
            elif fault is not None:
                self._fail(fault, request, leave)
        finally:
            leave()

    def _send(self, answer: Answer, leave: Callable[[], None]) -> None:
        self.send_response(answer.status, answer.reason)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:-1])
            self.wfile.flush()
            leave()
            self.wfile.write(answer.body[-1:])
        self.wfile.flush()

    def _fail(self, fault: Fault, request: Request, leave) -> None:
        kind = fault.kind
        if kind.isdigit():
            page = "<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.\n"
            self._send(html(int(kind), "<h1>Server Error (500)</h1>" if kind == "500" else page), leave)
        elif kind.startswith("retry-after"):
            wait = str(int(fault.value))
            if kind == "retry-after-date":
                wait = email.utils.formatdate(time.time() + fault.value, usegmt=True)
            self._send(html(429, "slow down", {"Retry-After": wait}), leave)
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._hang_up()
        elif kind in ("half", "unsized", "chunked", "drip"):
            self._stop_early(fault, self.server.stand_in.answer(request))
        elif kind == "html":
            self._send(Answer(200, {"Content-Type": "image/fits"}, b"<html><body>Sorry</body></html>"), leave)
        elif kind == "error-message":
            body = b"error_message\n Maximum 60 queries allowed per minute."
            self._send(Answer(200, {"Content-Type": "text/csv"}, body), leave)
        elif kind == "short":
            answer = self.server.stand_in.answer(request)
            self._send(Answer(200, answer.headers, answer.body[: len(answer.body) // 2]), leave)
        elif kind == "empty":
            self._send(Answer(200, {"Content-Type": "image/fits"}, b""), leave)
        elif kind == "elsewhere":
            moved = {**request.query, "ra": str((float(request.query["ra"]) + 0.01) % 360)}
            self._send(
                self.server.stand_in.answer(Request("GET", request.target, request.path, moved, request.headers)), leave
            )
        elif kind.startswith("redirect"):
            host = "localhost" if kind == "redirect-host" else "127.0.0.1"
            where = f"http://{host}:{self.server.stand_in.port}{request.target}"
            self._send(Answer(302 if kind == "redirect-host" else 301, {"Location": where}, b""), leave)
        else:
            raise ValueError(f"no fault {kind!r}")

    def _stop_early(self, fault: Fault, answer: Answer) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        half = answer.body[: len(answer.body) // 2]
        if fault.kind == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif fault.kind == "unsized":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if fault.kind == "chunked":
            self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
        elif fault.kind == "drip":
            for index in range(100):
                self.wfile.write(answer.body[index : index + 1])
                self.wfile.flush()
                time.sleep(fault.value)
        else:
            self.wfile.write(half)
        self.wfile.flush()
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR) if not self._lingers() else None
        self.connection.close()

    def _lingers(self) -> bool:
        return struct.unpack("ii", self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] == 1
