"""One of everything that a person can have, and what stands for it in addresses."""

import hashlib
import io
from datetime import timedelta
from typing import Any

import PIL.Image
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from accounts.models import ApiToken, Invitation, User
from generation.models import Collection, Image, Job, ShareLink
from generation.openai_api.files import signed
from gpu.engines import ENGINES
from gpu.models import Worker
from loras.library import set_preview
from loras.models import Admission, Lora
from tests.conftest import submit
from tests.generation.drawn import finished

PROMPTS = {
    "landscape": ("A sun over an orange sea", 192, 128),
    "portrait": ("The moon over a calm sea", 128, 192),
    "long": ("Misty hills under a purple sky with a sun, " * 80, 128, 128),
    "one word": ("W" * 300, 128, 128),
    "right to left": ("نجمة صفراء كبيرة على خلفية زرقاء", 128, 128),
    "emoji": ("🌞🌊 two moons 👩‍👩‍👧‍👦 over a sea", 160, 128),
}
OUT_OF_MEMORY = (
    "The GPU ran out of memory: this job needs about 27 GB, the largest free slot has 22 GB. "
    "Draw one picture at a time, or use FP4."
)


def webp(colour: str) -> ContentFile[bytes]:
    file = io.BytesIO()
    PIL.Image.new("RGB", (256, 128), colour).save(file, "WEBP")
    return ContentFile(file.getvalue())


def lora_of(owner: User, name: str = "Fog", trigger: str = "in fog", **changes: Any) -> Lora:
    """A LoRA that works on both engines, with its previews. Nobody tries it."""
    content = name.encode()
    sha256 = hashlib.sha256(content).hexdigest()
    file = default_storage.save(f"loras/{sha256[:2]}/{sha256}.safetensors", ContentFile(content))
    facts = {
        "description": name, "tags": [trigger], "licence": name[:120], "file": file, "sha256": sha256,
        "size": len(content), "family": "demo", "state": Lora.State.READY, "recommended_weight": 0.8,
        "facts": {
            "modules": {"transformer": 1}, "training": {name: name}, "tags": {name: 3}, "base_model": name,
        },
    }  # fmt: skip
    lora = Lora.objects.create(
        owner=owner, slug=_free_slug(name), name=name, trigger_words=[trigger], **facts | changes
    )
    for engine in ENGINES:
        Admission.objects.create(lora=lora, engine=engine, state=Admission.State.WORKS)
    set_preview(lora, webp("teal"), webp("grey"))
    return lora


def failed(owner: User, **changes: Any) -> Job:
    job = submit(owner, **changes)
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.FAILED, error_code="out_of_memory", error=OUT_OF_MEMORY,
        started_at=timezone.now(), finished_at=timezone.now(), draw_seconds=4.6, attempt=1,
    )  # fmt: skip
    return job


@transaction.atomic
def _free_slug(name: str) -> str:
    """A plain address, if it is free."""
    slug = slugify(name)
    return Lora.objects.new_slug(name) if Lora.objects.filter(slug=slug).exists() or not slug else slug


def everything_of(owner: User, text: str = "Fog") -> dict[str, str]:
    """One of everything, named ``text``. In a transaction: no worker sees a job that waits.

    Returns what stands for the parameter of an address, by the part of the address before it; those of
    ``api/v1/`` are the same. ``<token>`` and the like stand for a parameter.
    """
    lora = lora_of(owner, name=text[:120], trigger=text[:60])
    job = finished(owner, prompt=text, count=2, loras=[(lora, 0.5)])
    Job.objects.filter(pk=job.pk).update(load_seconds=2.1, save_seconds=0.2, notice=text)
    Job.objects.filter(pk=failed(owner, prompt=text).pk).update(error=f"{text}. {text}")
    submit(owner, prompt=text).cancel()
    image = job.images.get(index=0)
    collection = Collection.objects.create(owner=owner, name=text[:80])
    collection.add([image])
    job.images.filter(index=1).update(trashed_at=timezone.now())
    soon = timezone.now() + timedelta(days=1)
    link = ShareLink.objects.create(owner=owner, collection=collection, expires_at=soon, with_recipe=True)
    token, _ = ApiToken.objects.create(owner, name=text[:100])
    invitation = Invitation.objects.create(invited_by=owner, expires_at=soon)
    worker = Worker.start(text[:40], "cpu", "bf16", 1)
    return {
        "jobs": str(job.pk),
        "images": str(image.pk),
        "collections": str(collection.pk),
        "shares": str(link.pk),
        "s": link.token,
        "s/<token>": str(image.pk),
        "loras": lora.slug,
        "account/tokens": token.token_key,
        "me/tokens": token.token_key,
        "account/people": str(owner.pk),
        "account/invitations": str(invitation.pk),
        "invite": invitation.token,
        "setup": "no-token",
        "workers": str(worker.pk),
        "workers/engines": "bf16",
        "engines": "bf16",
        "models": "bf16",
        "images/files": signed(image, "png", 100),
    }


@transaction.atomic
def pictures_of_all_kinds(owner: User) -> None:
    """Pictures of every shape and prompts of every sort, jobs of every end."""
    for prompt, width, height in PROMPTS.values():
        finished(owner, prompt=prompt, width=width, height=height)
    failed(owner, prompt="Wide valley, oil paint", count=4)
    submit(owner, prompt="Seven red kites over a harbour").cancel()
    lora_of(owner, name="Paper relief", trigger="paper relief", visibility=Lora.Visibility.EVERYONE)


@transaction.atomic
def many_pictures(owner: User, count: int = 500) -> None:
    """So many rows; all of them show the same file."""
    job = finished(owner, prompt="One of many", width=192, height=128)
    image = job.images.get()
    shape = ((192, 128), (128, 192), (128, 128))
    same = {
        name: getattr(image, name)
        for name in (
            "owner",
            "seed",
            "model",
            "backend",
            "file",
            "sha256",
            "size",
            "thumbnail",
            "words",
            "facts",
        )
    }
    Image.objects.bulk_create(
        Image(job=job, index=index, width=shape[index % 3][0], height=shape[index % 3][1], **same)
        for index in range(1, count)
    )
