"""Jobs and pictures as the API shows them."""

from typing import Any

from django.urls import reverse
from rest_framework import serializers

from generation import forecast
from generation.models import Image, Job, JobLora
from generation.quotas import Balance


class JobLoraSerializer(serializers.ModelSerializer[JobLora]):
    class Meta:
        model = JobLora
        fields = ("slug", "name", "weight", "sha256")


class ImageSerializer(serializers.ModelSerializer[Image]):
    """A picture and where its files are."""

    file = serializers.HyperlinkedIdentityField(view_name="api:image-file")
    thumbnail = serializers.HyperlinkedIdentityField(view_name="api:image-thumbnail")

    class Meta:
        model = Image
        fields = (
            "id", "job", "index", "seed", "width", "height", "model", "backend", "batch_size", "vae_tiling",
            "sha256", "size", "created_at", "file", "thumbnail",
        )  # fmt: skip


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job as the API shows it."""

    loras = JobLoraSerializer(source="job_loras", many=True, read_only=True)
    images = ImageSerializer(many=True, read_only=True)
    progress = serializers.SerializerMethodField()
    queue = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    urls = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = (
            "id", "state", "progress", "queue", "error", "notice", "prompt", "width", "height", "count",
            "seed", "steps", "engine", "priority", "expected_seconds", "parent", "loras", "images", "attempt",
            "created_at", "started_at", "finished_at", "urls",
        )  # fmt: skip

    def get_progress(self, job: Job) -> dict[str, Any]:
        """``stage`` while running, and how many steps and pictures are done."""
        return {
            "stage": job.stage or job.state,
            "picture": job.picture + 1,
            "pictures": job.count,
            "step": job.step,
            "steps": job.steps,
        }

    def get_queue(self, job: Job) -> dict[str, float | int | None] | None:
        """Of a waiting job: ``position`` (1 is next), ``wait_seconds`` until it starts if that is known."""
        if job.state != Job.State.QUEUED:
            return None
        place = forecast.place_of(job)
        return {
            "position": place.position if place else None,
            "wait_seconds": None if place is None or place.wait is None else round(place.wait, 1),
        }

    def get_error(self, job: Job) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error_code else None

    def get_urls(self, job: Job) -> dict[str, str]:
        absolute = self.context["request"].build_absolute_uri
        return {
            "self": absolute(reverse("api:job-detail", args=[job.pk])),
            "cancel": absolute(reverse("api:job-cancel", args=[job.pk])),
            "retry": absolute(reverse("api:job-retry", args=[job.pk])),
            "page": absolute(job.get_absolute_url()),
        }


class BalanceSerializer(serializers.Serializer[Balance]):
    """``used`` and ``reserved`` (by jobs in flight): pictures, seconds, jobs or MB, by ``name``."""

    name = serializers.CharField()
    group = serializers.CharField()
    used = serializers.FloatField()
    reserved = serializers.FloatField()
    limit = serializers.IntegerField(allow_null=True)
    resets_at = serializers.DateTimeField(allow_null=True)
