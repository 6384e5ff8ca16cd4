"""Engines, workers and the account as the API shows them."""

from typing import Any

from rest_framework import serializers

from accounts.models import ApiToken
from generation.api.serializers import said
from generation.quotas import Balance
from gpu.models import Mode, Worker

_TIME = 'Example: "2026-11-25T21:10:41.123456Z"'


class EngineSerializer(serializers.Serializer[Any]):
    """What a job for an engine meets just now."""

    name = serializers.CharField(help_text='What jobs call it. Example: "fp4"')
    state = serializers.ChoiceField(
        ("ready", "loads", "waits", "paused", "off"),
        help_text="ready: draws at once; loads: its model is not in memory; waits: see note; paused: nobody "
        "takes jobs; off: it has no worker.",
    )
    note = serializers.CharField(help_text='For what its workers wait, or empty. Example: ""')
    mode = serializers.ChoiceField(Mode.choices, help_text="What operators want of it.")
    load_seconds = serializers.FloatField(
        allow_null=True,
        help_text="Seconds that loading takes, if it must be loaded; null: unknown. Example: 9.1",
    )
    queued = serializers.IntegerField(help_text="Jobs that wait. Example: 3")
    queue_limit = serializers.IntegerField(
        help_text="Jobs that may wait; more are answered 429. Example: 1000"
    )
    wait_seconds = serializers.FloatField(
        allow_null=True, help_text="Seconds that a new job would wait; null: unknown. Example: 12.4"
    )
    usual_seconds = serializers.FloatField(
        allow_null=True, help_text="Seconds that jobs take, in the middle; null: unknown. Example: 1.9"
    )


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A process that draws, on one device."""

    class Meta:
        model = Worker
        fields = (
            "id", "host", "device", "device_name", "engine", "state", "mode", "note", "model", "load_seconds",
            "memory_total", "memory_free", "memory_model", "memory_loras", "utilisation", "celsius",
            "started_at", "heartbeat",
        )  # fmt: skip
        read_only_fields = fields
        extra_kwargs = said(
            id='Of the worker. Example: "01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e"',
            host='The machine. Example: "gpu-1"',
            device='UUID of its GPU, or cpu. Example: "cpu"',
            device_name='What the device is called. Example: "NVIDIA L4"',
            engine='What it draws with. Example: "bf16"',
            state="What it does.",
            mode="What operators want of it; its engine has a mode, too.",
            note='Why it waits or was paused. Example: "Paused by ana"',
            model='What it has in memory, empty before its first job. Example: "FLUX.1-schnell"',
            load_seconds="Seconds that its last load took; null before. Example: 9.1",
            memory_total="Bytes of the device. Example: 24152899584",
            memory_free="Bytes of the device that nobody holds. Example: 8152899584",
            memory_model="Bytes that it holds without LoRAs. Example: 12152899584",
            memory_loras="Bytes of LoRAs that it keeps ready. Example: 152899584",
            utilisation="Of its GPU at its heartbeat, 0 to 1; null: unknown. Example: 0.73",
            celsius="Of its GPU at its heartbeat; null: unknown. Example: 61",
            started_at=f"When the process began. {_TIME}",
            heartbeat=f"When it was last heard of. {_TIME}",
        )


class ModeSerializer(serializers.Serializer[Any]):
    """What operators want."""

    mode = serializers.ChoiceField(
        Mode.choices, help_text="run; pause: take no new job; drain: then give the memory back, too."
    )


class BalanceSerializer(serializers.Serializer[Balance]):
    """``used`` and ``reserved`` (by jobs in flight): pictures, seconds, jobs or MB, by ``name``."""

    name = serializers.CharField(
        help_text="images_a_day, gpu_seconds_a_day, pending_jobs or storage_mb, which is also the unit. "
        'Example: "images_a_day"'
    )
    group = serializers.CharField(help_text='Whose members share it; empty if it is yours. Example: "team"')
    used = serializers.FloatField(help_text="In the unit of its name. Example: 7")
    reserved = serializers.FloatField(help_text="What jobs in flight will use, in that unit. Example: 2")
    limit = serializers.IntegerField(allow_null=True, help_text="In that unit; null: none. Example: 50")
    resets_at = serializers.DateTimeField(
        allow_null=True, help_text=f"When it begins anew; null if it does not. {_TIME}"
    )


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    """A token of yours, without the token: that was shown once."""

    prefix = serializers.CharField(source="token_key", help_text='How it begins. Example: "fx_9f3a1c22"')
    scopes = serializers.SerializerMethodField(help_text='What it may do. Example: ["generate", "read"]')
    created_at = serializers.DateTimeField(source="created", help_text=f"When it was made. {_TIME}")
    expires_at = serializers.DateTimeField(
        source="expiry", allow_null=True, help_text=f"When it ends; null: never. {_TIME}"
    )

    class Meta:
        model = ApiToken
        fields = ("name", "prefix", "scopes", "created_at", "expires_at", "last_used_at")
        extra_kwargs = said(
            name='What it is for. Example: "laptop"', last_used_at=f"To the minute; null: never. {_TIME}"
        )

    def get_scopes(self, token: ApiToken) -> list[str]:
        return [scope for scope in ApiToken.SCOPES if scope in token.scopes]


class MeSerializer(serializers.Serializer[Any]):
    """Who the token belongs to."""

    username = serializers.CharField(help_text='Your name. Example: "ana"')
    usage = BalanceSerializer(many=True, help_text="What is used of each limit.")
    tokens = TokenSerializer(many=True, help_text="Your tokens, the newest first.")
