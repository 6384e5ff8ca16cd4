"""Pictures by API."""

from typing import cast

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from generation import media
from generation.api.filters import ImageFilter
from generation.api.serializers import ImageSerializer, RecipeSerializer
from generation.models import Image, ImageQuerySet


@extend_schema_view(
    list=extend_schema(description="Your pictures, the newest first.", parameters=[ImageFilter]),
    retrieve=extend_schema(description="A picture, in the trash or not."),
    destroy=extend_schema(description="Delete it for good, its files too; `trash` can be taken back."),
)
class ImageViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[Image],
):
    queryset = Image.objects.none()  # for the schema
    serializer_class = ImageSerializer
    lookup_value_converter = "uuid"
    page_ordering = "-place"

    @property
    def user(self) -> User:
        return cast(User, self.request.user)

    def get_queryset(self) -> ImageQuerySet:
        if self.action != "list":
            return Image.objects.visible_to(self.user)
        asked = ImageFilter(data=self.request.query_params)
        asked.is_valid(raise_exception=True)
        return asked.images_of(self.user)

    @extend_schema(responses={(200, "image/png"): OpenApiTypes.BINARY})
    @action(detail=True)
    def file(self, request: Request, pk: str) -> HttpResponseBase:
        """The PNG."""
        return media.png(self.get_object())

    @extend_schema(responses={(200, "image/webp"): OpenApiTypes.BINARY})
    @action(detail=True)
    def thumbnail(self, request: Request, pk: str) -> HttpResponseBase:
        """A WebP of 512 pixels at most."""
        return media.thumbnail(self.get_object())

    @extend_schema(responses=RecipeSerializer)
    @action(detail=True)
    def recipe(self, request: Request, pk: str) -> Response:
        """What draws it again: the body of a POST to /api/v1/jobs/."""
        return Response(RecipeSerializer(RecipeSerializer.of(self.get_object())).data)

    @extend_schema(request=None, responses=ImageSerializer)
    @action(detail=True, methods=["put"])
    def favourite(self, request: Request, pk: str) -> Response:
        """Make it a favourite."""
        self._this().mark(favourite=True)
        return self._now()

    @extend_schema(request=None, responses={200: ImageSerializer})
    @favourite.mapping.delete
    def no_favourite(self, request: Request, pk: str) -> Response:
        """Make it no favourite."""
        self._this().mark(favourite=False)
        return self._now()

    @extend_schema(request=None, responses=ImageSerializer)
    @action(detail=True, methods=["post"])
    def trash(self, request: Request, pk: str) -> Response:
        """Move it to the trash. Nothing is deleted."""
        self._this().trash()
        return self._now()

    @extend_schema(request=None, responses=ImageSerializer)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, pk: str) -> Response:
        """Take it out of the trash."""
        self._this().restore()
        return self._now()

    def _this(self) -> ImageQuerySet:
        return self.get_queryset().filter(pk=self.get_object().pk)

    def _now(self) -> Response:
        return Response(self.get_serializer(self.get_object()).data)
