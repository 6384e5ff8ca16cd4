"""The gunicorn worker that ``manage.py up`` starts.

Gunicorn's own threaded worker reads requests and writes answers in its threads, without a time limit: as many
slow clients as it has threads stop it. Here one poller reads each request until a thread can serve it without
waiting, and sends what is left of a finished answer. Only streams and long bodies keep a thread, and they are
counted.
"""

import errno
import resource
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from django.conf import settings
from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

from fluxsite.listen import allow_names_of
from fluxsite.server import limits
from fluxsite.server.look_ahead import Arrived, LookAhead
from fluxsite.server.patient_socket import PatientSocket

RECEIVE = 256 * 1024
# Descriptors that connections and the files sent on them leave for the rest of the process.
SPARE_DESCRIPTORS = 200
_REFUSAL = "HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: 0\r\n{}\r\n"
_LATER = f"Retry-After: {limits.RETRY_AFTER_SECONDS}\r\n"


class Connection(TConn):  # type: ignore[misc]
    """A client's connection. ``parked``: what the poller does with it; without, a thread has it."""

    def __init__(self, cfg: Any, accepted: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, PatientSocket(accepted), client, server)
        # Gunicorn would otherwise wait for the first bytes itself.
        self.initialized = True
        self.parser = http.get_parser(cfg, self.sock, client)
        self.ahead = LookAhead()
        self.parked: Callable[[Connection], None] | None = None
        self.deadline = 0.0
        self.step = 0
        self.keeps_alive = False
        self.uploads = False

    @property
    def address(self) -> str:
        return self.client[0] if isinstance(self.client, tuple) else ""

    def allow(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the order in which they were parked.
        self.parked: dict[Connection, None] = {}
        self.incomplete_bytes = 0
        self.uploads: Counter[str] = Counter()
        self.stopping_since = 0.0
        self.looked_at_deadlines = 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        super().check_config(cfg, log)
        if cfg.is_ssl:
            raise RuntimeError("The web server speaks plain HTTP: put a proxy in front of it for TLS")

    def init_process(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = 2 * limits.CONNECTIONS + SPARE_DESCRIPTORS
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        self.worker_connections = max(1, min(limits.CONNECTIONS, (min(soft, most) - SPARE_DESCRIPTORS) // 2))
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi: Any = partial(self._call, self.wsgi)
        if settings.configured:  # the application is Django's
            allow_names_of([sock.getsockname() for sock in self.sockets])

    def _call(self, application: Any, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """In a thread: the application, which may ask whether the client still waits."""
        sock: PatientSocket = environ["gunicorn.socket"]
        sock.may_leave = False
        environ["fluxsite.waits_in_vain"] = partial(self._waits_in_vain, sock)
        answer: Iterable[bytes] = application(environ, start_response)
        # Of a stream, the rest of a piece must not stay until the next piece comes.
        sock.may_leave = not getattr(answer, "streaming", False)
        return answer

    def _waits_in_vain(self, sock: PatientSocket) -> bool:
        stops = self.stopping_since and time.monotonic() - self.stopping_since > limits.STOPPING_WAIT_SECONDS
        return bool(stops) or sock.is_closed_by_client()

    # Gunicorn's poller calls these.

    def accept(self, listener: socket.socket) -> None:
        if self.nr_conns >= self.worker_connections - 1:
            self._evict()
        try:
            accepted, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._evict()
            elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, accepted, client, listener.getsockname())
        self._park(connection, selectors.EVENT_READ, self._read, limits.HEADER_SECONDS)

    def finish_request(self, connection: Connection, future: "Future[bool]") -> None:
        """A thread is done with the connection."""
        self._leave_upload(connection)
        failed = future.cancelled() or future.exception()
        connection.keeps_alive = not failed and bool(future.result())
        connection.sock.setblocking(False)
        if connection.sock.rest and not failed:
            self._park(connection, selectors.EVENT_WRITE, self._write, limits.READER_SECONDS)
        else:
            self._answered(connection)

    def murder_pending(self) -> None:
        """Close what is past its deadline; once a second, as many connections may be parked."""
        now = time.monotonic()
        if not self.alive and not self.stopping_since:
            self.stopping_since = now
            for connection in self.parked:
                if connection.parked == self._read:
                    connection.deadline = min(connection.deadline, now + limits.STOPPING_REQUEST_SECONDS)
        if now - self.looked_at_deadlines >= 1:
            self.looked_at_deadlines = now
            for connection in [each for each in self.parked if each.deadline <= now]:
                self._drop(connection)

    # Requests that come.

    def _await_request(self, connection: Connection) -> None:
        """The next request of a kept connection; its beginning may be here already."""
        begun = connection.parser.unreader.take_buffered()
        seconds = limits.HEADER_SECONDS if begun else self.cfg.keepalive
        if not self.alive:
            seconds = limits.STOPPING_REQUEST_SECONDS
        self._park(connection, selectors.EVENT_READ, self._read, seconds)
        if begun:
            self._received(connection, begun)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv_now(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        if not connection.ahead.received and self.alive:
            connection.allow(limits.HEADER_SECONDS)
        self._received(connection, data)

    def _received(self, connection: Connection, data: bytes) -> None:
        had_header = connection.ahead.whole
        arrived = connection.ahead.add(data)
        self.incomplete_bytes += len(data)
        if arrived is Arrived.TOO_LONG:
            self._refuse(connection, "431 Request Header Fields Too Large")
        elif arrived is Arrived.PART:
            self._wait_for_more(connection, had_header, len(data))
        elif arrived is Arrived.HEADER and not self._enter_upload(connection):
            self._refuse(connection, "503 Service Unavailable", _LATER)
        else:
            self._hand_over(connection)

    def _wait_for_more(self, connection: Connection, had_header: int, count: int) -> None:
        if self.incomplete_bytes > limits.INCOMPLETE_BYTES:
            self._refuse(connection, "503 Service Unavailable", _LATER)
            return
        connection.step -= count
        if self.alive and connection.ahead.whole and (not had_header or connection.step <= 0):
            connection.step = limits.STEP_BYTES
            connection.allow(limits.STEP_SECONDS)

    def _hand_over(self, connection: Connection) -> None:
        self._unpark(connection)
        connection.parser.unreader.unread(self._take(connection))
        self.enqueue_req(connection)

    def _take(self, connection: Connection) -> bytes:
        self.incomplete_bytes -= len(connection.ahead.received)
        return connection.ahead.take()

    def _enter_upload(self, connection: Connection) -> bool:
        """A place for a request whose body the view reads while it arrives."""
        here = self.uploads[connection.address] < limits.UPLOADS_OF_ONE_ADDRESS
        if here and self.uploads.total() < limits.UPLOADS:
            self.uploads[connection.address] += 1
            connection.uploads = True
        return connection.uploads

    def _leave_upload(self, connection: Connection) -> None:
        if connection.uploads:
            connection.uploads = False
            self.uploads[connection.address] -= 1
            self.uploads += Counter()  # forgets addresses without any

    # Answers that go.

    def _write(self, connection: Connection) -> None:
        sock = connection.sock
        try:
            if sock.send_rest(sock.rest):
                connection.allow(limits.READER_SECONDS)
        except OSError:
            self._drop(connection)
            return
        if not sock.rest.left:
            sock.drop_rest()
            self._unpark(connection)
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        if connection.keeps_alive:
            self._await_request(connection)
        else:
            self._say_goodbye(connection)

    def _refuse(self, connection: Connection, status: str, headers: str = "") -> None:
        """Without a thread. The socket's buffer is empty, so it takes so short an answer at once."""
        self._unpark(connection)
        self._take(connection)
        try:
            connection.sock.send(_REFUSAL.format(status, headers).encode(), socket.MSG_DONTWAIT)
        except OSError:
            self._drop(connection)
        else:
            self._say_goodbye(connection)

    def _say_goodbye(self, connection: Connection) -> None:
        """Close it in order: what the client still sends is read, or it could lose the end of the answer."""
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
        else:
            self._park(connection, selectors.EVENT_READ, self._drain, limits.LINGER_SECONDS)

    def _drain(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv_now(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)

    # The poller's connections.

    def _park(
        self, connection: Connection, event: int, then: Callable[[Connection], None], seconds: float
    ) -> None:
        connection.parked = then
        connection.allow(seconds)
        self.parked[connection] = None

        def ready(_: socket.socket) -> None:
            # An event of the same round may have dropped the connection.
            if connection.parked == then:
                then(connection)

        self.poller.register(connection.sock, event, ready)

    def _unpark(self, connection: Connection) -> None:
        if connection.parked:
            connection.parked = None
            del self.parked[connection]
            self.poller.unregister(connection.sock)

    def _drop(self, connection: Connection) -> None:
        self._unpark(connection)
        self._take(connection)
        self.nr_conns -= 1
        connection.close()

    def _evict(self) -> None:
        """Make room for a connection: close the oldest request that is incomplete, else the oldest answer."""
        for kind in (self._drain, self._read, self._write):
            for connection in self.parked:
                if connection.parked == kind:
                    self._drop(connection)
                    return
