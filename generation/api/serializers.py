"""Jobs, pictures and collections as the API shows them.

A ``help_text`` that ends in “Example: …” gives the schema its description and its example, which is JSON.
"""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation import forecast
from generation.models import Collection, Image, Job, JobLora

_ID = 'Example: "01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e"'
_TIME = 'Example: "2026-11-25T21:10:41.123456Z"'


def said(**texts: str) -> dict[str, dict[str, str]]:
    """``extra_kwargs`` that give fields their help texts."""
    return {field: {"help_text": text} for field, text in texts.items()}


class JobLoraSerializer(serializers.ModelSerializer[JobLora]):
    """A LoRA of a job, as it was when the job was sent."""

    class Meta:
        model = JobLora
        fields = ("slug", "name", "weight", "sha256")
        extra_kwargs = said(
            slug='Its address in the library. Example: "night"',
            name='What it was called. Example: "Night"',
            weight="How strong it is, from -4 to 4. Example: 0.8",
            sha256=f'Of its file, in hexadecimal. Example: "{"ab" * 32}"',
        )


class ImageSerializer(serializers.ModelSerializer[Image]):
    """A picture and where its files are."""

    file = serializers.HyperlinkedIdentityField(
        view_name="api:image-file",
        help_text='Address of the PNG. Example: "http://localhost:8000/api/v1/images/01937f6e/file/"',
    )
    thumbnail = serializers.HyperlinkedIdentityField(
        view_name="api:image-thumbnail",
        help_text="Address of a WebP of 512 pixels at most. "
        'Example: "http://localhost:8000/api/v1/images/01937f6e/thumbnail/"',
    )

    class Meta:
        model = Image
        fields = (
            "id", "job", "index", "seed", "width", "height", "model", "backend", "batch_size", "vae_tiling",
            "sha256", "size", "favourite", "trashed_at", "created_at", "file", "thumbnail",
        )  # fmt: skip
        read_only_fields = fields
        extra_kwargs = said(
            id=f"Of the picture. {_ID}",
            job=f"Id of the job that drew it. {_ID}",
            index="Its place in the job, from 0. Example: 0",
            seed="What it was drawn with: the same on BF16 draws the same bytes. Example: 42",
            width="In pixels. Example: 1024",
            height="In pixels. Example: 1024",
            model='What drew it. Example: "FLUX.1-schnell"',
            backend='Libraries, versions and precision. Example: "diffusers 0.42.1 bfloat16"',
            batch_size="Pictures that were drawn together with it. Example: 1",
            vae_tiling="Whether it was decoded in tiles, for want of memory. Example: false",
            sha256=f'Of the PNG file, in hexadecimal. Example: "{"ab" * 32}"',
            size="Bytes of the PNG file. Example: 1482113",
            favourite="Whether it is one of your favourites. Example: false",
            trashed_at=f"When it was moved to the trash; null if it was not. {_TIME}",
            created_at=f"When it was stored. {_TIME}",
        )


class ProgressSerializer(serializers.Serializer[Any]):
    """How far a job is."""

    stage = serializers.CharField(
        help_text='While it runs: loading, drawing or saving; else its state. Example: "drawing"'
    )
    picture = serializers.IntegerField(help_text="The one being drawn, from 1. Example: 1")
    pictures = serializers.IntegerField(help_text="How many there will be. Example: 2")
    step = serializers.IntegerField(help_text="Steps done of that picture. Example: 3")
    steps = serializers.IntegerField(help_text="Steps of each picture. Example: 4")


class QueueSerializer(serializers.Serializer[Any]):
    """Where a waiting job stands."""

    position = serializers.IntegerField(allow_null=True, help_text="1 is the next. Example: 3")
    wait_seconds = serializers.FloatField(
        allow_null=True,
        help_text="Seconds until it starts, as jobs before it took; null: unknown. Example: 12.4",
    )


class JobErrorSerializer(serializers.Serializer[Any]):
    """Why a job failed."""

    code = serializers.CharField(help_text='For programs. Example: "out_of_memory"')
    message = serializers.CharField(
        help_text='A sentence: cause and remedy. Example: "The device has too little memory for this size."'
    )


class JobUrlsSerializer(serializers.Serializer[Any]):
    """What to do with a job, and where."""

    self = serializers.URLField(
        help_text='The job as it is. Example: "http://localhost:8000/api/v1/jobs/01937f6e/"'
    )
    cancel = serializers.URLField(
        help_text='POST stops it. Example: "http://localhost:8000/api/v1/jobs/01937f6e/cancel/"'
    )
    retry = serializers.URLField(
        help_text='POST asks for it again. Example: "http://localhost:8000/api/v1/jobs/01937f6e/retry/"'
    )
    page = serializers.URLField(help_text='For people. Example: "http://localhost:8000/jobs/01937f6e/"')


class JobStatusSerializer(serializers.ModelSerializer[Job]):
    """What of a job changes by itself."""

    progress = serializers.SerializerMethodField(help_text="How far it is.")
    position = serializers.SerializerMethodField(
        help_text="Its place in the queue, 1 is the next; null when it does not wait. Example: 3"
    )
    error = serializers.SerializerMethodField(
        help_text="Why it failed, or why the studio cancelled it; null otherwise."
    )

    class Meta:
        model = Job
        fields = ("id", "state", "progress", "position", "error")
        extra_kwargs = said(id=f"Of the job. {_ID}", state="The last three are final.")

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: Job) -> dict[str, Any]:
        """``stage`` while running, and how many steps and pictures are done."""
        return {
            "stage": job.stage or job.state,
            "picture": job.picture + 1,
            "pictures": job.count,
            "step": job.step,
            "steps": job.steps,
        }

    def get_position(self, job: Job) -> int | None:
        place = forecast.place_of(job) if job.state == Job.State.QUEUED else None
        return place.position if place else None

    @extend_schema_field(JobErrorSerializer(allow_null=True))
    def get_error(self, job: Job) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error_code else None


class JobSerializer(JobStatusSerializer):
    """A job: what was asked, how far it is, and its pictures."""

    loras = JobLoraSerializer(source="job_loras", many=True, read_only=True, help_text="In their order.")
    images = ImageSerializer(many=True, read_only=True, help_text="Those that are stored already.")
    queue = serializers.SerializerMethodField(help_text="Where it stands; null when it does not wait.")
    urls = serializers.SerializerMethodField(help_text="Where to go from here.")

    class Meta:
        model = Job
        fields = (
            "id", "state", "progress", "queue", "error", "notice", "prompt", "width", "height", "count",
            "seed", "steps", "engine", "priority", "expected_seconds", "parent", "loras", "images", "attempt",
            "created_at", "started_at", "finished_at", "urls",
        )  # fmt: skip
        read_only_fields = fields
        extra_kwargs = said(
            id=f"Of the job. {_ID}",
            state="The last three are final.",
            notice='What to know of a job that went well. Example: "Not read: “… and a fox”"',
            prompt='What the pictures should show. Example: "a big yellow star on a blue background"',
            width="In pixels. Example: 1024",
            height="In pixels. Example: 1024",
            count="Pictures, from 1 to 4. Example: 1",
            seed="Of the first picture; each next one has the next seed. Example: 42",
            steps="Of each picture, from 1 to 50. Example: 4",
            engine='fp4 or bf16. Example: "bf16"',
            priority="A higher one is drawn before all lower ones. Example: 0",
            expected_seconds="Of drawing and saving; null where no job before was like it. Example: 1.9",
            parent=f"Id of the job that this one asks for again; null without. {_ID}",
            attempt="How many workers have begun it. Example: 1",
            created_at=f"When it was sent. {_TIME}",
            started_at=f"When the last attempt began; null before. {_TIME}",
            finished_at=f"When it was over; null before. {_TIME}",
        )

    @extend_schema_field(QueueSerializer(allow_null=True))
    def get_queue(self, job: Job) -> dict[str, float | int | None] | None:
        """Of a waiting job: ``position`` (1 is next), ``wait_seconds`` until it starts if that is known."""
        if job.state != Job.State.QUEUED:
            return None
        place = forecast.place_of(job)
        return {
            "position": place.position if place else None,
            "wait_seconds": None if place is None or place.wait is None else round(place.wait, 1),
        }

    @extend_schema_field(JobUrlsSerializer)
    def get_urls(self, job: Job) -> dict[str, str]:
        absolute = self.context["request"].build_absolute_uri
        return {
            "self": absolute(reverse("api:job-detail", args=[job.pk])),
            "cancel": absolute(reverse("api:job-cancel", args=[job.pk])),
            "retry": absolute(reverse("api:job-retry", args=[job.pk])),
            "page": absolute(job.get_absolute_url()),
        }


class JobStatuses(serializers.Serializer[Any]):
    jobs = JobStatusSerializer(many=True, help_text="Those of the ids that are jobs of yours.")


class RecipeLora(serializers.Serializer[Any]):
    slug = serializers.CharField(help_text='Its address in the library. Example: "night"')
    weight = serializers.FloatField(help_text="From -4 to 4. Example: 0.8")


class RecipeSerializer(serializers.Serializer[Any]):
    """What draws a picture again: the body of a POST to /api/v1/jobs/."""

    prompt = serializers.CharField(help_text='What it shows. Example: "a big yellow star"')
    width = serializers.IntegerField(help_text="In pixels. Example: 1024")
    height = serializers.IntegerField(help_text="In pixels. Example: 1024")
    count = serializers.IntegerField(help_text="This picture alone. Example: 1")
    seed = serializers.IntegerField(help_text="Of this picture. Example: 42")
    steps = serializers.IntegerField(help_text="From 1 to 50. Example: 4")
    engine = serializers.CharField(help_text='fp4 or bf16. Example: "bf16"')
    loras = RecipeLora(many=True, help_text="In their order.")

    @staticmethod
    def of(image: Image) -> dict[str, Any]:
        job = image.job
        asked = {field: getattr(job, field) for field in Job.ASKED}
        loras = [{"slug": each.slug, "weight": each.weight} for each in job.job_loras.all()]
        return {**asked, "count": 1, "seed": image.seed, "loras": loras}


class CollectionSerializer(serializers.ModelSerializer[Collection]):
    """A collection of pictures; ``/api/v1/images/?collection=`` lists them."""

    images = serializers.IntegerField(
        source="pictures", read_only=True, help_text="Pictures in it that are not in the trash. Example: 12"
    )

    class Meta:
        model = Collection
        fields = ("id", "name", "images", "created_at")
        read_only_fields = ("id", "created_at")
        extra_kwargs = said(
            id=f"Of the collection. {_ID}",
            name='1 to 80 characters; you have one of this name at most. Example: "Lighthouses"',
            created_at=f"When it was made. {_TIME}",
        )


class PictureIds(serializers.Serializer[Any]):
    """Pictures of yours, by their ids."""

    images = serializers.ListField(
        child=serializers.UUIDField(),
        min_length=1,
        max_length=1000,
        help_text='Ids of pictures. Example: ["01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e"]',
    )
