"""Collections by API."""

from typing import Any, cast

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts.models import User
from generation.api.serializers import CollectionSerializer, PictureIds
from generation.models import Collection, Image

_TAKEN = OpenApiResponse(description="You have a collection of this name.")


class NameTaken(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "name_taken"
    default_detail = "You have a collection of this name. Choose another."


@extend_schema_view(
    list=extend_schema(description="Your collections, the newest first."),
    retrieve=extend_schema(description="A collection. Its pictures: `/api/v1/images/?collection=`."),
    create=extend_schema(
        description="Make a collection.", responses={201: CollectionSerializer, 409: _TAKEN}
    ),
    partial_update=extend_schema(
        description="Give it another name.", responses={200: CollectionSerializer, 409: _TAKEN}
    ),
    destroy=extend_schema(description="Delete the collection; its pictures stay."),
)
class CollectionViewSet(viewsets.ModelViewSet[Collection]):
    queryset = Collection.objects.none()  # for the schema
    serializer_class = CollectionSerializer
    lookup_value_converter = "uuid"
    http_method_names = ("get", "post", "patch", "delete", "head", "options")

    @property
    def user(self) -> User:
        return cast(User, self.request.user)

    def get_queryset(self) -> QuerySet[Collection]:
        return Collection.objects.visible_to(self.user).with_counts()

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = self.get_serializer(data=request.data)
        asked.is_valid(raise_exception=True)
        made = self._saved(asked, owner=self.user)
        return Response(self._shown(made), status.HTTP_201_CREATED)

    def perform_update(self, serializer: BaseSerializer[Collection]) -> None:
        self._saved(serializer)

    def _saved(self, asked: BaseSerializer[Collection], **fields: Any) -> Collection:
        try:
            with transaction.atomic():
                return asked.save(**fields)
        except IntegrityError:
            raise NameTaken from None

    @extend_schema(request=PictureIds, responses=CollectionSerializer)
    @action(detail=True, methods=["post"])
    def add(self, request: Request, pk: str) -> Response:
        """Put pictures in; those that are in stay in."""
        collection = self.get_object()
        collection.add(self._pictures(request))
        return Response(self._shown(collection))

    @extend_schema(request=PictureIds, responses=CollectionSerializer)
    @action(detail=True, methods=["post"])
    def remove(self, request: Request, pk: str) -> Response:
        """Take pictures out; the pictures stay."""
        collection = self.get_object()
        collection.remove(self._pictures(request))
        return Response(self._shown(collection))

    def _pictures(self, request: Request) -> list[Image]:
        asked = PictureIds(data=request.data)
        asked.is_valid(raise_exception=True)
        ids = set(asked.validated_data["images"])
        images = list(Image.objects.visible_to(self.user).filter(pk__in=ids))
        if missing := ids - {image.pk for image in images}:
            raise ValidationError({"images": f"You have no picture {min(missing)}."})
        return images

    def _shown(self, collection: Collection) -> Any:
        return self.get_serializer(self.get_queryset().get(pk=collection.pk)).data
