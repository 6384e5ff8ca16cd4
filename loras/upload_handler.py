"""Takes the file of a multipart body into the library's own draft as it comes, instead of Django's handlers.

Those would keep it in memory or in /tmp, and only then could anybody look how large it is, or whose.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from rest_framework.exceptions import APIException, ValidationError

from accounts.models import User
from files.bodies import takes_file
from loras.uploads import Incoming, largest_file


class ReceivedFile(UploadedFile):  # type: ignore[type-arg]
    """What a form field holds: all of it is in ``incoming``, which is the view's to use as a context."""

    def __init__(self, incoming: Incoming, name: str | None) -> None:
        super().__init__(file=incoming.file, name=name, size=incoming.size)
        self.incoming = incoming


class LoraUploadHandler(FileUploadHandler):
    """Must be the first and only one. Errors of ``Incoming`` go through to the view, as its answer."""

    chunk_size = 1024**2

    def __init__(self, request: Any = None) -> None:
        super().__init__(request)
        self.announced = 0
        self.incoming: Incoming | None = None

    def handle_raw_input(
        self,
        input_data: Any,
        META: Any,  # noqa: N803 (Django's name)
        content_length: int,
        boundary: Any,
        encoding: str | None = None,
    ) -> None:
        self.announced = content_length

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        if self.incoming:
            raise ValidationError({"file": ["Send one file in each request."]})
        # Somebody without an account stores nothing: the view answers 401 before it reads a body.
        self.incoming = Incoming(cast(User, self.request.user), self.announced)  # type: ignore[union-attr]

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if self.incoming:
            self.incoming.write(raw_data)

    def file_complete(self, file_size: int) -> ReceivedFile | None:
        return ReceivedFile(self.incoming, self.file_name) if self.incoming else None

    def upload_interrupted(self) -> None:
        self.discard()

    def discard(self) -> None:
        """Nothing stays of what was not kept. May be called again."""
        if self.incoming:
            self.incoming.discard()


Answer = Callable[[HttpRequest, APIException], HttpResponse]


def receives_lora(view: Callable[..., HttpResponse], refused: Answer) -> Callable[..., HttpResponse]:
    """``view`` gets the file of its form as a ``ReceivedFile``; ``refused`` answers where none is taken.

    The check of CSRF comes second, as it reads the form: the view must not be open to people without account.
    """

    @takes_file(largest_file)
    @csrf_exempt
    @wraps(view)
    def receive(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        handler = LoraUploadHandler(request)
        request.upload_handlers = [handler]
        try:
            return csrf_protect(view)(request, *args, **kwargs)
        except APIException as error:
            return refused(request, error)
        finally:
            handler.discard()

    return receive
