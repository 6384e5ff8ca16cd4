"""The API: load what is yours, check, call one verb, answer."""

from typing import cast

from django.db.models import QuerySet
from django.http import HttpResponseBase
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from generation import media, quotas
from generation.api.serializers import BalanceSerializer, ImageSerializer, JobSerializer
from generation.job_request import JobRequest
from generation.models import Image, Job, MissingLora


class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Job]):
    serializer_class = JobSerializer
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[Job]:
        user = cast(User, self.request.user)
        return Job.objects.visible_to(user).prefetch_related("job_loras", "images")

    def create(self, request: Request) -> Response:
        asked = JobRequest(data=request.data, context={"owner": request.user})
        asked.is_valid(raise_exception=True)
        return self._created(Job.submit(cast(User, request.user), **asked.validated_data))

    def _created(self, job: Job) -> Response:
        answer = self.get_serializer(self.get_queryset().get(pk=job.pk)).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": answer["urls"]["self"]})

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Ask for the same again, the seed too. 201 with the new job; 400 when a LoRA of it is gone."""
        try:
            return self._created(self.get_object().retry())
        except MissingLora as error:
            raise ValidationError({"loras": str(error)}) from error

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop the job. 409 when it is over already."""
        job = self.get_object()
        stopped = job.cancel()
        answer = self.get_serializer(self.get_queryset().get(pk=job.pk)).data
        return Response(answer, status=status.HTTP_200_OK if stopped else status.HTTP_409_CONFLICT)


class ImageViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Image]):
    serializer_class = ImageSerializer
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[Image]:
        return Image.objects.visible_to(cast(User, self.request.user)).kept()

    @action(detail=True)
    def file(self, request: Request, pk: str) -> HttpResponseBase:
        return media.png(self.get_object())

    @action(detail=True)
    def thumbnail(self, request: Request, pk: str) -> HttpResponseBase:
        return media.thumbnail(self.get_object())


class MeView(APIView):
    def get(self, request: Request) -> Response:
        """Who the token belongs to, and what is used of each limit."""
        user = cast(User, request.user)
        balances = [BalanceSerializer(balance).data for balance in quotas.balances(user)]
        return Response({"username": user.username, "usage": balances})
