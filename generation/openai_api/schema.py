"""OpenAI's shapes, for the schema: what is read and answered is in ``request`` and ``answers``."""

from typing import Any

from rest_framework import serializers

from generation import limits


class ModelSerializer(serializers.Serializer[Any]):
    """A model that may be named: an engine, or one with a LoRA."""

    id = serializers.CharField(help_text='What requests call it. Example: "flux1-schnell-fp4"')
    object = serializers.ChoiceField(("model",), help_text="Always model.")
    created = serializers.IntegerField(
        help_text="Seconds since 1970 of a LoRA's upload; 0: unknown. Example: 1764105041"
    )
    owned_by = serializers.CharField(help_text='Always fluxsite. Example: "fluxsite"')


class ModelsSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(("list",), help_text="Always list.")
    data = ModelSerializer(  # type: ignore[assignment]  # its class has one of the name
        many=True, help_text="All that you may name. Aliases work, and are not listed."
    )


class OpenAILoraSerializer(serializers.Serializer[Any]):
    """A LoRA to draw with; not one of OpenAI's fields."""

    name = serializers.CharField(help_text='Its address in the library. Example: "night"')
    weight = serializers.FloatField(
        required=False, help_text="From -4 to 4; left out, what its owner recommends. Example: 0.8"
    )


class GenerationSerializer(serializers.Serializer[Any]):
    """Other fields of OpenAI's are ignored. What is null counts as left out."""

    prompt = serializers.CharField(
        help_text=f"What the pictures should show, in at most {limits.MAX_PROMPT:,} characters. "
        'Example: "a big yellow star on a blue background"'
    )
    model = serializers.CharField(
        required=False,
        help_text='See /v1/models; left out, the studio\'s model. Example: "flux1-schnell:night"',
    )
    n = serializers.IntegerField(
        min_value=1, max_value=limits.MAX_COUNT, required=False, help_text="Pictures. Example: 1"
    )
    size = serializers.CharField(
        required=False, help_text='auto, or width x height in pixels that the model can draw. Example: "auto"'
    )
    response_format = serializers.ChoiceField(
        ("b64_json", "url"), required=False, help_text="Where the bytes are; left out, b64_json."
    )
    output_format = serializers.ChoiceField(
        ("png", "webp", "jpeg"), required=False, help_text="Of the files; left out, png."
    )
    output_compression = serializers.IntegerField(
        min_value=0,
        max_value=100,
        required=False,
        help_text="Quality of WebP and JPEG in percent. Example: 90",
    )
    background = serializers.ChoiceField(
        ("auto", "opaque"), required=False, help_text="Pictures are never transparent."
    )
    stream = serializers.BooleanField(required=False, help_text="Send pictures as events. Example: false")
    partial_images = serializers.IntegerField(
        min_value=0, max_value=3, required=False,
        help_text="With stream: 1 or more sends each picture small before it is sent whole. Example: 0",
    )  # fmt: skip
    seed = serializers.IntegerField(
        min_value=0, max_value=limits.MAX_SEED, required=False,
        help_text="Not one of OpenAI's. Of the first picture; left out, one is chosen. Example: 42",
    )  # fmt: skip
    steps = serializers.IntegerField(
        min_value=1, max_value=limits.MAX_STEPS, required=False,
        help_text="Not one of OpenAI's. Of each picture. Example: 4",
    )  # fmt: skip
    loras = OpenAILoraSerializer(many=True, required=False, help_text="Not one of OpenAI's. In their order.")


class DatumSerializer(serializers.Serializer[Any]):
    """A picture: either of the first two, never both."""

    b64_json = serializers.CharField(required=False, help_text='The file in base64. Example: "iVBORw0KGgo="')
    url = serializers.URLField(
        required=False,
        help_text="Where the file is, for whoever has the address, until it expires. "
        'Example: "http://localhost:8000/v1/images/files/WyIwMTkz"',
    )
    seed = serializers.IntegerField(help_text="What it was drawn with. Example: 42")


class PicturesSerializer(serializers.Serializer[Any]):
    created = serializers.IntegerField(help_text="Seconds since 1970. Example: 1764105041")
    data = DatumSerializer(many=True, help_text="The pictures, in their order.")  # type: ignore[assignment]
    size = serializers.CharField(help_text='In pixels. Example: "1024x1024"')
    output_format = serializers.ChoiceField(("png", "webp", "jpeg"), help_text="Of the files.")
    background = serializers.ChoiceField(("opaque",), help_text="Always opaque.")
    quality = serializers.ChoiceField(("auto",), help_text="Always auto: steps decide.")
    job = serializers.UUIDField(
        help_text='Id of the job, for /api/v1/jobs/. Example: "01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e"'
    )
    notice = serializers.CharField(
        required=False, help_text='What to know of them. Example: "Not read: “… and a fox”"'
    )
