"""What people asked for and what they got: jobs, pictures, collections of pictures, links to show them."""

from generation.models.collection import Collection, Placement
from generation.models.image import Image, ImageQuerySet
from generation.models.job import Job, JobLora, MissingLora, lora_set
from generation.models.requests import RequestCount
from generation.models.share import ShareLink

__all__ = [
    "Collection",
    "Image",
    "ImageQuerySet",
    "Job",
    "JobLora",
    "MissingLora",
    "Placement",
    "RequestCount",
    "ShareLink",
    "lora_set",
]
