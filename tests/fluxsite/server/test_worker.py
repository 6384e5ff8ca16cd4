"""The worker class in a real gunicorn, with fewer threads than it meets slow clients."""

import http.client
import inspect
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from gunicorn.workers import gthread

from fluxsite.server import limits
from tests.e2e.studio import ROOT
from tests.fluxsite.server.application import IN_MEMORY, LARGE

THREADS, SLOW = 4, 40
# Nothing takes so long unless it never comes.
PATIENCE_SECONDS = 60
Connect = Callable[..., socket.socket]


class Server:
    def __init__(self, worker_class: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.port: int = listener.getsockname()[1]
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "tests.fluxsite.server.application:application",
                    "--bind", f"fd://{listener.fileno()}", "--worker-class", worker_class,
                    "--threads", str(THREADS), "--log-level", "warning", "--no-control-socket",
                ],
                cwd=ROOT, pass_fds=[listener.fileno()],
            )  # fmt: skip

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server("fluxsite.server.worker.PatientWorker")
    yield started
    started.process.kill()
    started.process.wait()


@pytest.fixture
def send(server: Server) -> Iterator[Callable[[bytes], socket.socket]]:
    """Opens a connection, sends bytes on it, and reads nothing."""
    with ExitStack() as stack:

        def connect(data: bytes) -> socket.socket:
            made = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
            )
            made.sendall(data)
            return made

        yield connect


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def answer_to(client: socket.socket) -> tuple[int, bytes]:
    with http.client.HTTPResponse(client) as answer:
        answer.begin()
        return answer.status, answer.read()


@pytest.mark.parametrize(
    ("half", "count"),
    [
        (b"GET / HTTP/1.1\r\nHost: loc", SLOW),
        (request("/echo", "Content-Length: 1000000", method="POST") + b"half", SLOW),
        (request("/file"), SLOW),
        # They occupy memory, so only so many do without a thread.
        (request("/memory"), THREADS + 2),
    ],
    ids=["headers", "bodies", "readers of files", "readers of memory"],
)
def test_slow_clients_hold_no_thread(server: Server, send: Connect, half: bytes, count: int) -> None:
    for _ in range(count):
        send(half)
    assert server.get("/") == b"here"


def test_a_slow_body_and_a_slow_reader_are_served_in_the_end(server: Server, send: Connect) -> None:
    client = send(request("/echo", "Content-Length: 10", method="POST"))
    readers = {send(request("/file")): LARGE, send(request("/memory")): IN_MEMORY}
    assert server.get("/") == b"here"
    client.sendall(b"0123456789")
    assert answer_to(client) == (200, b"10")
    for reader, size in readers.items():
        status, body = answer_to(reader)
        assert (status, len(body)) == (200, size)
        reader.sendall(request("/"))
        assert answer_to(reader) == (200, b"here")


def test_two_requests_at_once_get_two_answers(server: Server, send: Connect) -> None:
    last = request("/", "Connection: close")
    client = send(request("/echo", "Content-Length: 2", method="POST") + b"ab" + last)
    answers = b""
    while data := client.recv(1000):
        answers += data
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.endswith(b"here")


@pytest.mark.parametrize(
    ("header", "body"),
    [("Content-Length: 2000000", b"x" * 1024), ("Transfer-Encoding: chunked", b"400\r\n" + b"x" * 1024)],
)
def test_a_view_reads_a_long_body_while_it_arrives(
    server: Server, send: Connect, header: str, body: bytes
) -> None:
    """The rest of the body never comes, and the view answers with the first kilobyte of it."""
    client = send(request("/first", header, method="POST") + body)
    assert answer_to(client) == (200, b"x")


def test_long_bodies_are_counted_and_the_next_is_told_when_to_come_again(
    server: Server, send: Connect
) -> None:
    long = request("/echo", "Content-Length: 2000000", method="POST")
    admitted = [send(long) for _ in range(limits.UPLOADS_OF_ONE_ADDRESS)]
    refused = send(long).recv(1000)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5\r\n" in refused
    for client in admitted:
        client.sendall(bytes(2_000_000))
        assert answer_to(client) == (200, b"2000000")
    again = send(long + bytes(2_000_000))
    assert answer_to(again) == (200, b"2000000")


def test_a_header_that_never_ends_is_refused(server: Server, send: Connect) -> None:
    client = send(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (limits.HEADER_BYTES // 6))
    assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_a_piece_of_a_stream_does_not_wait_for_the_next(server: Server, send: Connect) -> None:
    client, received = send(request("/stream")), b""
    while b"first" not in received:
        received += client.recv(1000)


def test_a_view_is_told_that_its_client_has_left(server: Server, send: Connect) -> None:
    send(request("/gone")).close()
    assert server.get("/noticed") == b"True"


def test_a_stop_lets_a_running_request_finish_and_waits_for_no_half_request(
    server: Server, send: Connect
) -> None:
    halves = [send(b"GET / HTTP/1.1\r\n") for _ in range(SLOW)]
    running = send(request("/echo", "Content-Length: 2000000", method="POST"))
    assert server.get("/") == b"here"  # connections are accepted in their order
    server.process.terminate()
    assert [half.recv(1) for half in halves] == [b""] * SLOW
    running.sendall(bytes(2_000_000))
    assert answer_to(running) == (200, b"2000000")
    assert server.process.wait(20) == 0, "gunicorn ends what is left after 30 s"


def test_gunicorn_has_the_inner_parts_that_the_worker_builds_on() -> None:
    """A new release of gunicorn may move them: read its ``gthread.py`` before you change these lines."""
    worker, connection = gthread.ThreadWorker, gthread.TConn
    run = inspect.getsource(worker.run)
    for called in (
        "self.murder_pending()",
        "self.nr_conns < self.worker_connections",
        "while self.nr_conns > 0",
    ):
        assert called in run
    assert "self.finish_request, conn, fut" in inspect.getsource(worker.enqueue_req)
    assert "not conn.initialized and not conn.data_ready" in inspect.getsource(worker.handle)
    assert "if self.initialized:\n            return" in inspect.getsource(connection.init)
    assert "_keepalive_after(conn, self.handle_request(req, conn))" in inspect.getsource(worker.handle)
