"""Two pictures side by side: mostly a draft and its final."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from generation.models import Image, Job
from generation.models.image import FINAL_ENGINE
from generation.views.shared import images_of, jobs_of, uuid_or_404


@require_safe
def compare(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A picture beside the same in another precision, or beside ``?with=``, any of the same size.

    Where its final is not there yet, the job that draws it stands in its place.
    """
    image = get_object_or_404(images_of(request), pk=pk)
    context: dict[str, Any] = {"page": "gallery", "image": image, "final_engine": FINAL_ENGINE}
    if other := _other(request, image):
        left, right = pair = (other, image) if _is_final_of(image, other) else (image, other)
        context |= {"left": left, "right": right, "pair": pair, "is_final": _is_final_of(right, left)}
        context["is_same_recipe"] = image.is_like(other)
    else:
        context |= {"job": _final_job(request, image), "jobs_as": "feed"}
    return render(request, "generation/compare.html", context)


def _other(request: HttpRequest, image: Image) -> Image | None:
    """The picture beside it; the newest of its family that another engine drew, unless one is named."""
    if named := request.GET.get("with"):
        same_size = images_of(request).filter(width=image.width, height=image.height)
        return get_object_or_404(same_size, pk=uuid_or_404(named))
    others = [one for one in image.family() if one.job.engine != image.job.engine]
    return others[-1] if others else None


def _is_final_of(image: Image, other: Image) -> bool:
    return image.job.engine == FINAL_ENGINE != other.job.engine


def _final_job(request: HttpRequest, image: Image) -> Job | None:
    """The job that draws the final, or the last one that was to and did not."""
    if image.job.engine == FINAL_ENGINE:
        return None
    job = image.find_job_in(FINAL_ENGINE)
    of_image = jobs_of(request).filter(parent=image.job, engine=FINAL_ENGINE, seed=image.seed)
    return jobs_of(request).get(pk=job.pk) if job else of_image.exclude(state=Job.State.SUCCEEDED).first()
