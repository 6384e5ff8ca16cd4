"""Engines, workers, and who asks."""

from typing import Any, cast

from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.permissions import ADMIN, GENERATE
from generation import engine_states, forecast, operations, quotas
from generation.api.studio_serializers import (
    EngineSerializer,
    MeSerializer,
    ModeSerializer,
    WorkerSerializer,
)
from generation.engine_states import EngineState
from gpu.engines import ENGINES
from gpu.models import Mode, Pool, Worker

_ENGINE = OpenApiParameter("name", str, OpenApiParameter.PATH, enum=list(ENGINES), description="The engine.")


class EngineViewSet(viewsets.ViewSet):
    required_scope = GENERATE
    lookup_field = "name"
    lookup_value_converter = "str"
    serializer_class = EngineSerializer

    @extend_schema(responses=EngineSerializer(many=True))
    def list(self, request: Request) -> Response:
        """What a job for each engine meets just now."""
        states = engine_states.engine_states()
        return Response(EngineSerializer([_engine(state) for state in states], many=True).data)

    @extend_schema(parameters=[_ENGINE], responses=EngineSerializer)
    def retrieve(self, request: Request, name: str) -> Response:
        """What a job for this engine meets just now."""
        return Response(EngineSerializer(_engine_named(name)).data)

    @extend_schema(parameters=[_ENGINE], request=ModeSerializer, responses=EngineSerializer)
    @action(detail=True, methods=["post"], required_scope=ADMIN)
    def mode(self, request: Request, name: str) -> Response:
        """Pause, drain or resume all workers of the engine; for administrators."""
        _engine_named(name)
        _set_mode(request, Pool.of(name))
        return Response(EngineSerializer(_engine_named(name)).data)


class WorkerViewSet(viewsets.ReadOnlyModelViewSet[Worker]):
    """Who draws, where, and in what state."""

    required_scope = GENERATE
    queryset = Worker.objects.all()
    serializer_class = WorkerSerializer
    lookup_value_converter = "uuid"

    @extend_schema(request=ModeSerializer, responses=WorkerSerializer)
    @action(detail=True, methods=["post"], required_scope=ADMIN)
    def mode(self, request: Request, pk: str) -> Response:
        """Pause, drain or resume a worker; for administrators."""
        _set_mode(request, get_object_or_404(Worker, pk=pk))
        return Response(self.get_serializer(self.get_object()).data)


def _engine_named(name: str) -> dict[str, Any]:
    if name not in ENGINES:
        raise Http404
    return _engine(engine_states.state_of(name))


def _engine(state: EngineState) -> dict[str, Any]:
    pool = Pool.of(state.name)
    return {
        "name": state.name,
        "state": state.state,
        "note": state.note,
        "mode": pool.mode,
        "load_seconds": state.load_seconds,
        "queued": len(forecast.places(state.name)),
        "queue_limit": pool.queue_limit,
        "wait_seconds": forecast.wait_now(state.name),
        "usual_seconds": forecast.usual_seconds(state.name),
    }


def _set_mode(request: Request, target: Pool | Worker) -> None:
    user = cast(User, request.user)
    if not user.has_perm("gpu.change_worker"):
        raise PermissionDenied("Only administrators may do this.", "not_an_administrator")
    asked = ModeSerializer(data=request.data)
    asked.is_valid(raise_exception=True)
    operations.set_mode(target, Mode(asked.validated_data["mode"]), user.username)


class MeView(APIView):
    serializer_class = MeSerializer

    def get(self, request: Request) -> Response:
        """Who the token belongs to, what is used of each limit, and the tokens there are."""
        user = cast(User, request.user)
        me = {
            "username": user.username,
            "usage": quotas.balances(user),
            "tokens": user.auth_token_set.order_by("-created"),
        }
        return Response(MeSerializer(me).data)
