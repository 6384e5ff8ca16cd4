"""What a picture says of itself: whole, readable by others, strict and bounded whatever is sent."""

import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import PIL.Image
import PIL.PngImagePlugin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation import infotext, limits, png_chunks, png_metadata
from generation.png_chunks import UnreadablePicture
from generation.png_metadata import Recipe, RecipeLora

PIXELS = PIL.Image.linear_gradient("L").resize((64, 96)).convert("RGB")
RECIPE = Recipe(
    "a lighthouse", 64, 96, 42, 4, "bf16", "FLUX.1-schnell", "diffusers 0.42.1, torch 2.13, bfloat16",
    loras=(RecipeLora("paper-relief", "Paper Relief", "ab12cd34ef56" + "0" * 52, 0.8),),
)  # fmt: skip
MARK = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# What JobRequest lets through: no NUL, no halves of characters, no space at the ends.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
PROMPTS = st.text(LETTERS, min_size=1).map(str.strip)
ODD = [
    "line one\nline two\r\nthree", 'say "hi", \\ and \'this\'', "🌊 un café à Zürich — naïve",
    "<lora:night:1>, x", "مرحبا بالعالم", "Steps: 3, up the hill", "Negative prompt: none",
    "a\x01\x1f\x7f\x85b", "</x:xmpmeta>",
    "a, b, <lora:x:0.5>\nSteps: 20, Sampler: DDIM, Seed: 1",
]  # fmt: skip


def encoded(**changes: Any) -> bytes:
    return png_metadata.encoded(PIXELS, replace(RECIPE, **changes))


def with_texts(*texts: bytes) -> bytes:
    """A picture of another program."""
    bare = png_metadata.without_recipe(encoded())
    return bare[:33] + b"".join(texts) + bare[33:]


def with_parameters(text: str) -> bytes:
    return with_texts(png_chunks.text("parameters", text))


def packed(value: bytes) -> bytes:
    return png_chunks.made(b"zTXt", b"parameters\0\0" + value)


def texts_of(png: bytes) -> dict[str, str]:
    """As Pillow reads them, which knows nothing of ours."""
    image = PIL.Image.open(io.BytesIO(png))
    assert isinstance(image, PIL.PngImagePlugin.PngImageFile)
    return {key: str(value) for key, value in image.text.items()}


def kinds(png: bytes) -> list[bytes]:
    return [chunk.kind for chunk in png_chunks.chunks(png)]


def pixels(png: bytes) -> list[bytes]:
    return [bytes(chunk.whole) for chunk in png_chunks.chunks(png) if chunk.kind not in png_chunks.TEXT_KINDS]


# Writing ---------------------------------------------------------------------------------------------


def test_the_recipe_is_written_as_civitai_reads_it() -> None:
    assert texts_of(encoded())["parameters"] == (
        "a lighthouse <lora:paper-relief:0.8>\n"
        "Steps: 4, Sampler: Euler, CFG scale: 1, Seed: 42, Size: 64x96, Model: FLUX.1-schnell, "
        'Lora hashes: "paper-relief: ab12cd34ef"'
    )
    tag = r"<(lora|hypernet):([a-zA-Z0-9_\.\-]+):([0-9.]+)>"  # Civitai's own
    assert re.findall(tag, RECIPE.as_infotext) == [("lora", "paper-relief", "0.8")]


def test_a_small_weight_is_written_without_an_exponent() -> None:
    loras = (replace(RECIPE.loras[0], weight=0.00002),)
    assert "<lora:paper-relief:0.00002>" in replace(RECIPE, loras=loras).as_infotext


def test_our_json_holds_the_whole_recipe_and_marks_the_demo_model() -> None:
    told = json.loads(texts_of(encoded(demo=True, vae_tiling=True, batch_size=2))["fluxsite"])
    assert told == {
        "schema": 1, "prompt": "a lighthouse", "width": 64, "height": 96, "seed": 42, "steps": 4,
        "engine": "bf16", "model": "FLUX.1-schnell", "backend": RECIPE.backend, "batch_size": 2,
        "vae_tiling": True, "demo": True,
        "loras": [{
            "slug": "paper-relief", "name": "Paper Relief", "sha256": RECIPE.loras[0].sha256, "weight": 0.8,
        }],
    }  # fmt: skip


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_gives_others() -> None:
    assert encoded() == encoded()
    assert encoded() != encoded(seed=43)


def test_the_texts_stand_before_the_pixels() -> None:
    assert kinds(encoded())[:5] == [b"IHDR", b"iTXt", b"tEXt", b"tEXt", b"IDAT"]


@pytest.mark.parametrize(("prompt", "kind"), [("un café", b"tEXt"), ("🌊", b"iTXt"), ("Zażółć", b"iTXt")])
def test_what_is_not_latin_1_is_written_in_utf_8(prompt: str, kind: bytes) -> None:
    png = encoded(prompt=prompt)
    chunk = next(one for one in png_chunks.chunks(png) if b"parameters" in bytes(one.data[:10]))
    assert chunk.kind == kind
    assert texts_of(png)["parameters"].startswith(prompt)


def test_the_ai_mark_is_xmp_that_an_xml_parser_reads() -> None:
    from xml.etree import ElementTree

    xmp = texts_of(encoded())["XML:com.adobe.xmp"]
    body = xmp[xmp.index("<x:") : xmp.index("<?xpacket end")]
    root = ElementTree.fromstring(body)  # noqa: S314
    description = root.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description is not None
    assert description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == MARK


# Without recipe --------------------------------------------------------------------------------------


def test_without_its_recipe_the_pixels_are_the_same_bytes_and_the_mark_stays() -> None:
    plain = png_metadata.without_recipe(encoded(prompt="a secret"))
    assert list(texts_of(plain)) == ["XML:com.adobe.xmp"]
    assert MARK.encode() in plain
    assert b"secret" not in plain
    assert pixels(plain) == pixels(encoded(prompt="a secret"))
    assert PIL.Image.open(io.BytesIO(plain)).tobytes() == PIXELS.tobytes()


def test_a_picture_stored_before_there_was_a_mark_gets_it() -> None:
    buffer = io.BytesIO()
    PIXELS.save(buffer, "PNG")
    assert MARK.encode() in png_metadata.without_recipe(buffer.getvalue())


def test_no_other_text_and_nothing_after_the_end_goes_out_either() -> None:
    png = with_texts(png_chunks.text("Comment", "a secret"), png_chunks.made(b"eXIf", b"MM a secret"))
    assert b"secret" not in png_metadata.without_recipe(png + b"a secret")


def test_without_recipe_twice_is_the_same() -> None:
    plain = png_metadata.without_recipe(encoded())
    assert png_metadata.without_recipe(plain) == plain


# Reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ODD)
def test_an_odd_prompt_comes_back_as_it_was(prompt: str) -> None:
    assert png_metadata.read(encoded(prompt=prompt)).recipe == replace(RECIPE, prompt=prompt)


@given(
    prompt=PROMPTS,
    seed=st.integers(0, limits.MAX_SEED),
    weights=st.lists(st.floats(-limits.MAX_WEIGHT, limits.MAX_WEIGHT), max_size=limits.MAX_LORAS),
    names=PROMPTS,
)
def test_every_recipe_comes_back_whole(prompt: str, seed: int, weights: list[float], names: str) -> None:
    loras = tuple(RecipeLora(f"lora-{i}", names, f"{i:064x}", weight) for i, weight in enumerate(weights))
    recipe = replace(RECIPE, prompt=prompt, seed=seed, loras=loras)
    png = png_metadata.encoded(PIXELS, recipe)
    assert png_metadata.read(png).recipe == recipe
    assert texts_of(png)["parameters"].startswith(prompt)


@given(prompt=PROMPTS.filter(lambda text: not re.search(r"[<\r]|Steps: ?\d|Negative prompt:", text)))
def test_what_others_would_read_is_the_recipe_too(prompt: str) -> None:
    told = infotext.read(replace(RECIPE, prompt=prompt).as_infotext)
    lora = infotext.Tag("paper-relief", 0.8, "ab12cd34ef")
    assert (told.prompt, told.loras) == (prompt.strip(" \t\n,"), (lora,))
    assert (told.details["Seed"], told.details["Size"], told.details["Steps"]) == ("42", "64x96", "4")


def test_parameters_of_a1111_are_read_with_all_they_say() -> None:
    told = png_metadata.read(with_parameters(
        "masterpiece, <lora:add_detail:0.7>, 1girl <lora:x:1:0.5><hypernet:h:1>\nline two\n"
        "Negative prompt: ugly, blurry\nworse\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, "
        'Model hash: 45dee52b, Model: "a, b", Hires upscale: 2, Lora hashes: "add_detail: 7c6bad76eb54", '
        'TI hashes: "easy: c74b4e810b03", Hashes: {"model": "a", "lora:x": "ffff0000"}, Version: v1.10.1'
    )).infotext  # fmt: skip
    assert told
    assert told.prompt == "masterpiece, 1girl\nline two"
    assert told.negative_prompt == "ugly, blurry\nworse"
    assert told.loras == (
        infotext.Tag("add_detail", 0.7, "7c6bad76eb54"), infotext.Tag("x", 1.0, "ffff0000", second="0.5"),
    )  # fmt: skip
    assert told.hypernets == ("h",)
    assert told.details["Model"] == "a, b"
    assert told.details["Hires upscale"] == "2"
    assert told.details["Version"] == "v1.10.1"


@pytest.mark.parametrize("kind", ["compressed", "international", "compressed international"])
def test_parameters_are_read_from_every_kind_of_text(kind: str) -> None:
    text = "a cat\nSteps: 4, Seed: 7"
    chunk = {
        "compressed": packed(zlib.compress(text.encode())),
        "international": png_chunks.utf8_text("parameters", text),
        "compressed international": png_chunks.made(
            b"iTXt", b"parameters\0\1\0en\0Parameter\0" + zlib.compress(text.encode())
        ),
    }[kind]
    told = png_metadata.read(with_texts(chunk)).infotext
    assert told
    assert (told.prompt, told.details) == ("a cat", {"Steps": "4", "Seed": "7"})


def test_a_later_schema_is_read_as_far_as_it_is_known() -> None:
    told = json.loads(RECIPE.as_json) | {"schema": 2, "guidance": 3.5}
    assert png_metadata.read(with_texts(png_chunks.text("fluxsite", json.dumps(told)))).recipe == RECIPE


@pytest.mark.parametrize(
    "told",
    [
        "[]", "null", "[" * 90_000, '{"loras": 1}', '{"loras": [[]]}', '{"loras": {}}', "{}", "NaN",
        "9" * 4000,
        RECIPE.as_json.replace("42", '"42"'), RECIPE.as_json.replace("42", "true"),
        RECIPE.as_json.replace("42", "9" * 4000),
        RECIPE.as_json.replace("0.8", "NaN"), RECIPE.as_json.replace("0.8", "1" + "0" * 400),
        RECIPE.as_json.replace("a lighthouse", r"\ud800"), RECIPE.as_json.replace("a lighthouse", r"\u0000"),
    ],
)  # fmt: skip
def test_json_that_is_not_ours_gives_way_to_the_parameters(told: str) -> None:
    png = with_texts(png_chunks.text("fluxsite", told), png_chunks.text("parameters", "a cat\nSteps: 4"))
    found = png_metadata.read(png)
    assert found.recipe is None
    assert found.infotext
    assert found.infotext.prompt == "a cat"


@pytest.mark.parametrize(
    ("png", "reason"),
    [
        (b"", "not a PNG"),
        (b"\xff\xd8\xff\xe0 a JPEG", "not a PNG"),
        (encoded()[:-12], "cut off"),
        (encoded()[:100], "cut off"),
        (png_chunks.SIGNATURE + png_chunks.made(b"IEND", b""), "begins with its header"),
        (encoded()[:33] + encoded()[8:], "begins with its header"),
        (png_metadata.without_recipe(encoded()), "holds no settings"),
        (with_texts(png_chunks.text("workflow", "{}")), "ComfyUI's own"),
        (with_parameters('{"sui_image_params": {}}'), "SwarmUI"),
        (with_texts(png_chunks.made(b"iTXt", b"parameters\0\0\0\0\0\xff")), "not UTF-8"),
        (with_texts(png_chunks.made(b"iTXt", b"parameters\0\7\0\0\0x")), "damaged"),
        (with_texts(png_chunks.made(b"iTXt", b"parameters\0")), "damaged"),
        (with_texts(packed(b"no zlib")), "cannot be unpacked"),
        (with_texts(packed(zlib.compress(b"x" * 99)[:-4])), "cannot be unpacked"),
        (with_texts(packed(zlib.compress(bytes(9**8)))), "longer than"),
        (with_texts(png_chunks.made(b"tEXt", b"parameters\0" + b"x" * 1_000_001)), "longer than"),
        (with_texts(*[png_chunks.made(b"abCd", b"")] * 20_000), "more than 20,000 parts"),
        (bytes(png_metadata.MAX_FILE + 1), "larger than 32 MB"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(png: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePicture, match=reason):
        png_metadata.read(png)


def test_a_length_that_lies_is_refused() -> None:
    png = bytearray(encoded())
    struct.pack_into(">I", png, 33, 2**31 - 1)
    with pytest.raises(UnreadablePicture, match="cut off"):
        png_metadata.without_recipe(bytes(png))


def outcome(action: Callable[[bytes], Any], png: bytes) -> Any:
    """What came of it, or the sentence by which it was refused. Any other error is a failure."""
    try:
        return action(png)
    except UnreadablePicture as refused:
        return str(refused)


@given(data=st.data())
def test_a_file_that_was_cut_or_in_which_a_bit_was_turned_is_read_or_refused(data: st.DataObject) -> None:
    whole = encoded()
    png = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(png) * 8 - 1), max_size=3)) if png else ():
        png[at // 8] ^= 1 << at % 8
    actions: tuple[Callable[[bytes], Any], ...] = (png_metadata.read, png_metadata.without_recipe)
    for action in actions:
        answer = outcome(action, bytes(png))
        assert answer == action(whole) or re.match(r"[A-Z].*\.$", str(answer))


@given(told=st.binary(max_size=300))
def test_any_bytes_as_a_text_are_read_or_refused(told: bytes) -> None:
    for kind in png_chunks.TEXT_KINDS:
        for key in (b"parameters\0", b"fluxsite\0", b""):
            assert outcome(png_metadata.read, with_texts(png_chunks.made(kind, key + told)))


@pytest.mark.parametrize(
    "hostile",
    [
        " " * 100_000, "<lora:" * 16_000, ",<lora:x:1" * 10_000, "Steps: 1, Civitai resources: [" * 3_000,
        "Steps: 1, Hashes: {" * 5_000, 'Steps: 1, ' + '\\"' * 40_000, "Steps: 1\n" * 10_000, '"' * 99_999,
        "Steps: 1" + ", a: b" * 15_000, "Negative prompt:" * 6_000, "Steps: 1, " + "a" * 90_000,
    ],
)  # fmt: skip
def test_a_text_made_to_be_costly_is_read_all_the_same(hostile: str) -> None:
    told = infotext.read(hostile)
    assert len(told.details) <= infotext.MAX_READ
    assert len(told.loras) <= infotext.MAX_READ


def test_of_many_texts_only_the_first_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 203 kB with 200 texts of a megabyte each kept a core busy for 190 s."""
    texts = [png_chunks.made(b"zTXt", b"fluxsite\0\0" + zlib.compress(b"[" * 900_000))] * 200
    unpacked: list[int] = []
    value_of = png_chunks.value_of

    def counted(chunk: png_chunks.Chunk) -> str:
        value = value_of(chunk)
        unpacked.append(len(value))
        return value

    monkeypatch.setattr(png_chunks, "value_of", counted)
    png = png_metadata.encoded(PIL.Image.new("RGB", (8, 8)), RECIPE)
    with pytest.raises(UnreadablePicture, match="holds no settings"):
        png_metadata.read(png_metadata._with(png_metadata.without_recipe(png), b"".join(texts)))
    assert sum(unpacked) <= png_metadata.MAX_TRIED * png_chunks.MAX_TEXT


def test_a_recipe_longer_than_any_that_is_written_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = json.dumps("\N{ARTIST PALETTE}" * limits.MAX_PROMPT)
    assert len(longest) + 8 * 1000 < png_metadata.MAX_RECIPE
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail("parsed"))
    assert png_metadata._recipe(" " * (png_metadata.MAX_RECIPE + 1)) is None
