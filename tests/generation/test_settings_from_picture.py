"""A picture that is dropped on the form: the same job again, or as much of it as can be had, and what not."""

import io
from dataclasses import replace
from typing import Any

import PIL.Image
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from generation import limits, png_metadata
from generation.dropped_picture import MAX_NOTES, Settings, settings_of
from generation.job_request import JobRequest
from generation.models import Job
from generation.png_metadata import Recipe, RecipeLora
from gpu.model_card import ModelCard
from tests.conftest import submit
from tests.generation.drawn import draw
from tests.generation.test_png_metadata import LETTERS, PROMPTS, with_parameters
from tests.generation.test_views import browser_of, lora, text

ADDRESS = "/settings-from-picture/"
CARD = ModelCard.of(settings.FLUXSITE_MODEL)
SCHNELL = ModelCard()
PIXELS = PIL.Image.new("RGB", (64, 64), "grey")
# Without a row: where no LoRA is named, nobody is asked for.
NOBODY = User(pk=1)
RECIPE = Recipe("a red circle", 144, 96, 7, 4, "bf16", CARD.name, "diffusers", demo=True)
A1111 = "Steps: 4, Sampler: Euler, CFG scale: 1, Seed: 7, Size: 1024x1024, Model: flux1-schnell"


@pytest.fixture
def client(alice: User) -> Client:
    return browser_of(alice)


def ours(user: User, card: ModelCard = CARD, **changes: Any) -> Settings:
    return settings_of(png_metadata.encoded(PIXELS, replace(RECIPE, **changes)), user, card)


def told(user: User, parameters: str, card: ModelCard = SCHNELL) -> Settings:
    return settings_of(with_parameters(parameters), user, card)


def sent(client: Client, png: bytes) -> Any:
    return client.post(ADDRESS, {"picture": SimpleUploadedFile("x.png", png, "image/png")})


# Ours --------------------------------------------------------------------------------------------------


def test_a_picture_of_ours_gives_the_same_job(alice: User) -> None:
    job = submit(
        alice, prompt="say “hi”\nin <lora:night:1>", width=144, height=96, steps=7, engine="fp4", seed=41,
        count=2,
        loras=[(lora("night", sha256="a" * 64), -0.35), (lora("outline", sha256="b" * 64), 1.1)],
    )  # fmt: skip
    image = draw(job, 1)
    with image.file.open() as file:
        settings = settings_of(file.read(), alice, CARD)
    assert settings.unmapped == ["Model a model: fluxsite demo draws here"]  # none drew this one
    checked = JobRequest(data=settings.asked, context={"owner": alice})
    assert checked.is_valid(), checked.errors
    again = Job.submit(alice, **checked.validated_data)
    for name in ("prompt", "width", "height", "steps", "engine"):
        assert getattr(again, name) == getattr(job, name)
    assert (again.seed, again.count) == (42, 1)
    chosen = [(one.slug, one.sha256, one.weight) for one in again.job_loras.all()]
    assert chosen == [(one.slug, one.sha256, one.weight) for one in job.job_loras.all()]


@given(PROMPTS.filter(bool), st.integers(0, limits.MAX_SEED), st.integers(1, limits.MAX_STEPS))
def test_every_recipe_of_ours_fits_the_form_again(prompt: str, seed: int, steps: int) -> None:
    settings = ours(NOBODY, prompt=prompt, seed=seed, steps=steps)
    assert settings.unmapped == []
    assert settings.asked == {
        "prompt": prompt, "width": 144, "height": 96, "seed": seed, "steps": steps, "engine": "bf16",
        "loras": [],
    }  # fmt: skip


def test_a_lora_is_found_by_its_file_though_it_was_renamed(alice: User) -> None:
    lora("other", sha256="b" * 64)
    lora("renamed", sha256="a" * 64)
    settings = ours(alice, loras=(RecipeLora("night", "Night", "a" * 64, 0.5),))
    assert settings.asked["loras"] == [{"slug": "renamed", "weight": 0.5}]
    assert settings.unmapped == []


def test_a_lora_of_the_same_name_with_other_bytes_is_taken_and_said(alice: User) -> None:
    lora("night", sha256="b" * 64)
    settings = ours(alice, loras=(RecipeLora("night", "Night", "a" * 64, 0.5),))
    assert settings.asked["loras"] == [{"slug": "night", "weight": 0.5}]
    assert settings.unmapped == ["LoRA Night (hash aaaaaaaaaa): the library's Night is another file"]


def test_others_private_loras_are_not_in_the_library(alice: User, bob: User) -> None:
    lora("night", sha256="a" * 64, owner=bob, visibility="private")
    settings = ours(alice, loras=(RecipeLora("night", "Night", "a" * 64, 0.5),))
    assert settings.asked["loras"] == []
    assert settings.unmapped == ["LoRA Night (hash aaaaaaaaaa): not in the library"]


def test_what_drew_it_otherwise_is_said(db: None) -> None:
    settings = ours(NOBODY, engine="fp8", model="FLUX.1-schnell", batch_size=2, vae_tiling=True)
    assert settings.unmapped == [
        "Engine fp8: there is none of this name here",
        "Model FLUX.1-schnell: fluxsite demo draws here",
        "Drawn in a batch of 2; alone it differs in its last digits",
        "Decoded in tiles, for want of memory; with more of it the picture differs a little",
    ]


# Other programs' ---------------------------------------------------------------------------------------


def test_what_other_programs_set_and_we_cannot_is_named(alice: User) -> None:
    settings = told(
        alice,
        "a cat, <lora:add_detail:0.7> <hypernet:h:1>\nNegative prompt: ugly\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Distilled CFG Scale: 3.5, "
        "Seed: 965400086, Size: 1024x768, Model hash: 45dee52b, Model: juggernaut, Clip skip: 2, "
        'Lora hashes: "add_detail: 7c6bad76eb54", Version: v1.10.1',
    )
    assert settings.asked == {
        "prompt": "a cat", "width": 1024, "height": 768, "seed": 965400086, "steps": 20, "loras": [],
    }  # fmt: skip
    assert settings.unmapped == [
        "Negative prompt: FLUX.1-schnell takes none",
        "Steps 20 are set, but FLUX.1-schnell is made for 4",
        "Sampler DPM++ 2M Karras: FLUX.1-schnell is drawn with Euler",
        "CFG scale 7: FLUX.1-schnell is drawn without guidance",
        "Distilled CFG Scale 3.5: FLUX.1-schnell is drawn without guidance",
        "Model juggernaut (hash 45dee52b): FLUX.1-schnell draws here",
        "Hypernetwork h: there are none for this model",
        "Clip skip 2: there is no such setting here",
        "LoRA add_detail (hash 7c6bad76eb): not in the library",
    ]


def test_what_is_like_ours_is_mapped_without_a_word(alice: User) -> None:
    assert told(alice, f"a cat\n{A1111}").unmapped == []


@pytest.mark.parametrize(
    ("odd", "note"),
    [
        ("Seed: -1", "Seed -1: use a whole number from 0 to 9007199254740991"),
        ("Seed: 18446744073709551615", "Seed 18446744073709551615: use a whole number"),
        ("Steps: 60", "Steps 60: use a whole number from 1 to 50"),
        ("Size: 832x1217", "Size 832 × 1217: FLUX.1-schnell draws sides of a multiple of 16"),
        ("Size: 999999x1", "Size 999999 × 1: FLUX.1-schnell draws"),
        ("Size: 0x0", "Size 0 × 0: FLUX.1-schnell draws"),
    ],
)
def test_a_number_out_of_range_is_named_with_what_is_allowed(alice: User, odd: str, note: str) -> None:
    name = odd.split(":")[0]
    parameters = ", ".join(part for part in A1111.split(", ") if not part.startswith(name))
    settings = told(alice, f"a cat\n{odd}" if name == "Steps" else f"a cat\n{parameters}, {odd}")
    assert any(one.startswith(note) for one in settings.unmapped), settings.unmapped
    assert name == "Size" or name.lower() not in settings.asked


def test_a_size_that_does_not_fit_becomes_the_offered_one_nearest_in_shape(alice: User) -> None:
    settings = told(alice, "a cat\nSteps: 4, Size: 832x1216", CARD)
    assert (settings.asked["width"], settings.asked["height"]) == (96, 144)


def test_without_a_size_the_pictures_own_counts(alice: User) -> None:
    assert told(alice, "a cat", CARD).asked["width"] == 64


@pytest.mark.parametrize("hash", ["a" * 10, "a" * 64, "c" * 12, "C" * 12])
def test_a_lora_is_found_by_every_kind_of_hash(alice: User, hash: str) -> None:
    lora("renamed", family="flux1", sha256="a" * 64, facts={"auto_v3": "c" * 64})
    settings = told(alice, f'a cat <lora:x:0.5>\n{A1111}, Lora hashes: "x: {hash}"')
    assert settings.asked["loras"] == [{"slug": "renamed", "weight": 0.5}]
    assert settings.unmapped == []


@pytest.mark.parametrize("name", ["paper-relief", "paper_relief", "Paper Relief", "PAPER RELIEF"])
def test_a_lora_is_found_by_its_name(alice: User, name: str) -> None:
    lora("paper-relief", family="flux1", name="Paper Relief")
    assert told(alice, f"a cat <lora:{name}:0.5>").asked["loras"] == [{"slug": "paper-relief", "weight": 0.5}]


def test_a_weight_out_of_range_leaves_the_recommended_one(alice: User) -> None:
    lora("night", family="flux1")
    for weight in ("9", "nan", "x", "-4.5"):
        settings = told(alice, f"a cat <lora:night:{weight}>\n{A1111}")
        assert settings.asked["loras"] == [{"slug": "night", "weight": None}]
        assert "the recommended one is set" in settings.unmapped[0]


def test_two_weights_and_a_lora_named_twice_are_said(alice: User) -> None:
    lora("night", family="flux1")
    settings = told(alice, f"a cat <lora:night:0.5:0.8><lora:night:1>\n{A1111}")
    assert settings.asked["loras"] == [{"slug": "night", "weight": 0.5}]
    assert settings.unmapped == [
        "LoRA night: one weight for all of it, not 0.8 for a part",
        "LoRA night: left out; each is used once, and 8 at most",
    ]


def test_more_loras_than_a_job_takes_are_left_out(alice: User) -> None:
    tags = "".join(f"<lora:{lora(f'l{i}', family='flux1').slug}:1>" for i in range(10))
    settings = told(alice, f"a cat {tags}\n{A1111}")
    assert len(settings.asked["loras"]) == limits.MAX_LORAS
    assert len(settings.unmapped) == 2


def test_the_list_ends_somewhere_and_says_how_much_more_there_is(alice: User) -> None:
    settings = told(alice, f"a cat\n{A1111}, " + ", ".join(f"Odd {i}: 1" for i in range(50)))
    assert len(settings.shown) == MAX_NOTES + 1
    assert settings.shown[-1] == "And 30 more"


def test_the_cost_does_not_grow_with_what_a_picture_names(alice: User) -> None:
    def queries(parameters: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            told(alice, parameters)
        return len(seen)

    many = " ".join(f"<lora:l{i}:1>" for i in range(100))
    hashes = ", ".join(f"l{i}: {i:012x}" for i in range(100))
    assert queries("a <lora:x:1>") == queries(f'a {many}\nSteps: 4, Lora hashes: "{hashes}"') == 1


ODD = st.text(LETTERS, max_size=200) | st.from_regex(r"\ASteps: [\x20-\x7e]{0,80}", fullmatch=True)


@given(ODD)
def test_whatever_the_text_is_the_form_can_hold_it(alone: str) -> None:
    settings = told(NOBODY, alone.replace("<lora", "<Lora") + "\n" + A1111)
    assert len(settings.asked["prompt"]) <= limits.MAX_PROMPT
    assert settings.asked["seed"] == 7


# The page ----------------------------------------------------------------------------------------------


def test_the_form_is_filled_and_what_has_no_place_is_listed(client: Client) -> None:
    lora("night")
    parameters = "a <b>cat</b> <lora:night:0.45>\nNegative prompt: x\nSteps: 9, Seed: 0"
    page = text(sent(client, with_parameters(parameters)))
    assert "a &lt;b&gt;cat&lt;/b&gt;</textarea>" in page
    assert 'name="seed" type="text" inputmode="numeric" autocomplete="off" value="0"' in page
    assert 'value="night" id="lora-night" checked' in page
    assert 'name="weight-night" value="0.45"' in page
    assert "Negative prompt: fluxsite demo takes none" in page
    assert "but not all" in page


def test_a_picture_of_which_all_is_taken_is_said_so(client: Client) -> None:
    page = text(sent(client, png_metadata.encoded(PIXELS, RECIPE)))
    assert "All settings taken from the picture" in page
    assert 'value="144x96" checked' in page


@pytest.mark.parametrize("content", [b"GIF89a", b"", png_metadata.encoded(PIXELS, RECIPE)[:-5]])
def test_what_cannot_be_read_is_said_on_the_form(client: Client, content: bytes) -> None:
    page = text(sent(client, content), 400)
    assert 'class="error-box"' in page
    assert '<form class="setup"' in page


def test_without_a_file_it_says_what_to_choose(client: Client) -> None:
    assert "Choose a PNG file first." in text(client.post(ADDRESS), 400)


def test_a_get_leads_to_the_form(client: Client) -> None:
    assert client.get(ADDRESS).headers["Location"] == "/"


def test_what_announces_too_much_is_refused_unread(client: Client) -> None:
    class Unread(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

    sent: dict[str, Any] = {
        "CONTENT_LENGTH": str(png_metadata.MAX_FILE + 20_000), "wsgi.input": Unread(),
    }  # fmt: skip
    response = client.generic("POST", ADDRESS, b"x", "multipart/form-data; boundary=x", **sent)
    assert "larger than 32 MB" in text(response, 413)


def test_another_site_cannot_send_a_picture(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert sent(client, png_metadata.encoded(PIXELS, RECIPE)).status_code == 403


def test_nobody_without_an_account_sends_a_picture(db: None) -> None:
    assert sent(Client(), b"x").headers["Location"].startswith("/login/")


def test_a_form_without_javascript_ends_its_lines_as_every_other(client: Client, alice: User) -> None:
    client.post("/", {
        "prompt": "one\r\ntwo", "size": "144x96", "count": "1", "seed": "7", "steps": "4", "engine": "bf16",
    })  # fmt: skip
    assert Job.objects.get().prompt == "one\ntwo"


# The last prompts --------------------------------------------------------------------------------------


def test_the_last_prompts_are_listed_once_each_newest_first(client: Client, alice: User, bob: User) -> None:
    for prompt in ("first", "second", "first"):
        submit(alice, prompt=prompt)
    submit(bob, prompt="bob's secret")
    page = text(client.get("/prompts/"))
    assert page.count("<span>first</span>") == page.count("<span>second</span>") == 1
    assert page.index("<span>first</span>") < page.index("<span>second</span>")
    assert "secret" not in page


def test_a_last_prompt_fills_the_prompt_alone(client: Client, alice: User, bob: User) -> None:
    job = submit(alice, prompt="a prompt of mine", seed=4711)
    page = text(client.get(f"/?prompt_from={job.pk}"))
    assert "a prompt of mine</textarea>" in page
    assert 'value="4711"' not in page
    assert "a prompt of mine" not in text(browser_of(bob).get(f"/?prompt_from={job.pk}"))


def test_the_last_prompts_cost_the_same_however_many_there_are(client: Client, alice: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            client.get("/prompts/")
        return len(seen)

    submit(alice)
    one = queries()
    for i in range(60):
        submit(alice, prompt=f"prompt {i}")
    assert queries() == one
    assert text(client.get("/prompts/")).count("data-prompt") == 50


def test_without_prompts_the_list_says_so(client: Client) -> None:
    assert "Nothing sent yet" in text(client.get("/prompts/"))
