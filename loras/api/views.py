"""The API of the library: addressed by ``slug``."""

from dataclasses import asdict
from typing import Any, cast

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from accounts.models import User
from files import storage
from files.bodies import takes_file
from loras import library, uploads
from loras.api.serializers import (
    InspectionSerializer,
    LoraChanges,
    LoraFile,
    LoraSerializer,
    LoraUpload,
)
from loras.models import Lora
from loras.upload_handler import LoraUploadHandler

_SEARCH = OpenApiParameter("search", str, description="Words that are all in name, triggers, tags or text.")
_NO_ROOM = OpenApiResponse(description="The disk of the studio is nearly full.")


@extend_schema_view(
    list=extend_schema(description="The LoRAs that you may see, the newest first.", parameters=[_SEARCH]),
    retrieve=extend_schema(description="A LoRA, with what trials have shown."),
)
class LoraViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Lora]):
    serializer_class = LoraSerializer
    required_scope = "loras"
    lookup_field = "slug"
    lookup_value_converter = "slug"
    parser_classes = (*api_settings.DEFAULT_PARSER_CLASSES, MultiPartParser)  # type: ignore[arg-type]

    def get_queryset(self) -> QuerySet[Lora]:
        loras = (
            Lora.objects.visible_to(self._user) if self.action == "list" else Lora.objects.open_to(self._user)
        )
        loras = loras.search(self.request.query_params.get("search", ""))
        return loras.select_related("owner").prefetch_related("admissions", "groups")

    @property
    def _user(self) -> User:
        return cast(User, self.request.user)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Before anything reads the body: the check of CSRF does.
        self.upload = LoraUploadHandler(request._request)
        request._request.upload_handlers = [self.upload]
        super().initial(request, *args, **kwargs)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            # Also if the connection broke off while the body was read: DRF finalizes no answer then.
            if upload := getattr(self, "upload", None):
                upload.discard()

    @extend_schema(
        request={"multipart/form-data": LoraUpload}, responses={201: LoraSerializer, 507: _NO_ROOM}
    )
    @takes_file(uploads.largest_file)
    def create(self, request: Request) -> Response:
        """Upload a LoRA. 400 with the reason where it would not work; 413, 429 or 507 for want of room."""
        asked = LoraUpload(data=request.data, context=self.get_serializer_context())
        asked.is_valid(raise_exception=True)
        said = asked.validated_data
        file = said.pop("file")
        facts = file.incoming.inspect()
        said.setdefault("name", uploads.name_of(facts, file.name))
        said.setdefault("trigger_words", facts.trigger_words)
        groups, visibility = said.pop("groups", []), said.pop("visibility", Lora.Visibility.PRIVATE)
        with transaction.atomic():
            lora = file.incoming.keep(facts, **said)
            lora.groups.set(groups)
            lora.share(visibility, self._user)
            lora.save(update_fields=["visibility", "approval"])
        return Response(self.get_serializer(lora).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request={"multipart/form-data": LoraFile}, responses={200: InspectionSerializer, 507: _NO_ROOM}
    )
    @action(detail=False, methods=["post"])
    @takes_file(uploads.largest_file)
    def inspect(self, request: Request) -> Response:
        """What a file is, and whether it would be admitted. Nothing is stored."""
        asked = LoraFile(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(asdict(asked.validated_data["file"].incoming.inspect()))

    @extend_schema(request=LoraChanges(partial=True), responses=LoraSerializer)
    def partial_update(self, request: Request, slug: str) -> Response:
        """Change what is said of a LoRA, and who may use it."""
        lora = self._own()
        changes = LoraChanges(lora, data=request.data, partial=True, context=self.get_serializer_context())
        changes.is_valid(raise_exception=True)
        return Response(self.get_serializer(changes.save(by=self._user)).data)

    def destroy(self, request: Request, slug: str) -> Response:
        """Delete it; what was drawn with it stays."""
        library.delete(self._own())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(detail=True)
    def download(self, request: Request, slug: str) -> HttpResponseBase:
        """The file; for its owner and for administrators."""
        lora = self._own()
        try:
            return storage.respond(
                str(lora.file), "application/octet-stream", download_as=f"{lora.slug}.safetensors"
            )
        except FileNotFoundError:
            raise Http404("The file of this LoRA is missing.") from None

    def _own(self) -> Lora:
        """The LoRA, to change it: 404 where it cannot be seen, 403 where it is somebody else's."""
        lora = self.get_object()
        if not lora.may_be_changed_by(self._user):
            raise PermissionDenied("This LoRA is somebody else's. Its owner and administrators may do that.")
        return lora
