"""A client's socket: a thread waits for a slow client only so long, and can leave the rest of an answer."""

import errno
import os
import select
import socket
import threading
import time
from typing import Any, Protocol

from fluxsite.server import limits


class Pace:
    """How much a client has moved, and how long it made us wait.

    Raises ConnectionResetError if the client is too slow.
    """

    def __init__(self) -> None:
        self._step()

    def _step(self) -> None:
        self.bytes, self.seconds = limits.STEP_BYTES, float(limits.STEP_SECONDS)

    def moved(self, count: int) -> None:
        self.bytes -= count
        if self.bytes <= 0:
            self._step()

    def wait(self, sock: socket.socket, event: int) -> None:
        """Until ``sock`` is ready for ``event``."""
        poll, began = select.poll(), time.monotonic()
        poll.register(sock, event)
        ready = poll.poll(self.seconds * 1000)
        self.seconds -= time.monotonic() - began
        if not ready or self.seconds <= 0:
            raise ConnectionResetError(errno.ECONNRESET, "The client is too slow")


class Budget:
    """Bytes that many connections share."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self._lock = limit, 0, threading.Lock()

    def take(self, count: int) -> bool:
        """False, and nothing is taken, if there are not so many left."""
        with self._lock:
            if fits := self.used + count <= self.limit:
                self.used += count
        return fits

    def give(self, count: int) -> None:
        with self._lock:
            self.used -= count


answers = Budget(limits.ANSWER_BYTES)


class Rest(Protocol):
    """The part of an answer that is not sent yet."""

    left: int

    def send(self, sock: "PatientSocket") -> int:
        """Send what the socket takes now; the number of bytes. Raises BlockingIOError if it takes none."""

    def may_be_left(self) -> bool:
        """Whether there is memory to keep it without a thread."""

    def close(self) -> None: ...


class Piece:
    """Bytes in memory."""

    def __init__(self, data: Any) -> None:
        self.view = memoryview(data).cast("B")
        self.left, self.kept = len(self.view), 0

    def send(self, sock: "PatientSocket") -> int:
        sent = socket.socket.send(sock, self.view[-self.left :], socket.MSG_DONTWAIT)
        self.left -= sent
        return sent

    def may_be_left(self) -> bool:
        # The whole object stays in memory until its last byte is sent.
        if answers.take(len(self.view)):
            self.kept = len(self.view)
        return bool(self.kept)

    def close(self) -> None:
        answers.give(self.kept)
        self.kept = 0


class FilePart:
    """``count`` bytes of an open file; the file may be closed meanwhile."""

    def __init__(self, descriptor: int, offset: int, count: int) -> None:
        self.descriptor, self.offset, self.left = os.dup(descriptor), offset, count

    def send(self, sock: "PatientSocket") -> int:
        sent = os.sendfile(sock.fileno(), self.descriptor, self.offset, min(self.left, 1 << 20))
        if not sent:
            raise ConnectionResetError(errno.ECONNRESET, "The file became shorter while it was sent")
        self.offset, self.left = self.offset + sent, self.left - sent
        return sent

    def may_be_left(self) -> bool:
        return True

    def close(self) -> None:
        os.close(self.descriptor)


class PatientSocket(socket.socket):
    """``may_leave``: the answer is complete, so that what the client has not taken needs no thread.

    ``rest``: what a thread left behind; the worker's poller sends it.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.reading, self.writing = Pace(), Pace()
        self.may_leave = False
        self.rest: Rest | None = None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As much as is there; waits for the first byte."""
        while True:
            try:
                data = super().recv(size, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.reading.wait(self, select.POLLIN)
            else:
                self.reading.moved(len(data))
                return data

    def recv_now(self, size: int) -> bytes:
        """Raises BlockingIOError if nothing is there."""
        return super().recv(size, socket.MSG_DONTWAIT)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        self._answer(Piece(data))

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        size = os.fstat(file.fileno()).st_size - offset if count is None else count
        # sendfile(2) has no flag that keeps one call from blocking.
        self.setblocking(False)
        self._answer(FilePart(file.fileno(), offset, size))
        return size

    def _answer(self, part: Rest) -> None:
        if self.rest:
            self._send_all(self.rest)
            self.drop_rest()
        try:
            self.send_rest(part)
            if part.left and self.may_leave and part.may_be_left():
                self.rest = part
                return
            self._send_all(part)
        finally:
            if self.rest is not part:
                part.close()

    def _send_all(self, part: Rest) -> None:
        while part.left:
            self.writing.wait(self, select.POLLOUT)
            self.writing.moved(self.send_rest(part))

    def send_rest(self, part: Rest) -> int:
        """Send what the client takes now, 1 MiB about, so that one fast client keeps nobody waiting."""
        sent = 0
        try:
            while part.left and sent < 1 << 20:
                sent += part.send(self)
        except BlockingIOError:
            pass
        return sent

    def drop_rest(self) -> None:
        if self.rest:
            self.rest.close()
        self.rest = None

    def is_closed_by_client(self) -> bool:
        """Also with unread bytes before the end, which ``MSG_PEEK`` would show instead."""
        poll = select.poll()
        try:
            poll.register(self, select.POLLRDHUP)
        except (OSError, ValueError):
            return True
        return bool(poll.poll(0))

    def close(self) -> None:
        self.drop_rest()
        super().close()
