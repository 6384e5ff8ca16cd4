"""One picture: what its page says, and what is done with it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connections
from django.test import Client

from accounts.models import Quota, User
from generation.models import Collection, Image, Job, JobLora
from generation.models import image as models_image
from loras.models import Lora
from tests.conftest import client_of, submit
from tests.generation.drawn import draw, finished
from tests.generation.test_views import browser_of, lora, text

ACTS = ("finish", "variations", "trash", "restore")


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser."""
    return browser_of(alice)


@pytest.fixture
def image(alice: User) -> Image:
    """A draft."""
    return finished(alice, engine="fp4", seed=7).images.get()


def act(client: Client, image: Image, what: str, query: str = "", **fields: Any) -> Any:
    return client.post(f"/images/{image.pk}/{what}/{query}", fields)


def with_lora(alice: User, **changes: Any) -> tuple[Image, Lora]:
    used = lora(owner=alice, visibility="private")
    return finished(alice, loras=[(used, 0.8)], engine="fp4", **changes).images.get(), used


# Whose ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ACTS)
def test_others_can_do_nothing_with_it(image: Image, bob: User, charlie: User, what: str) -> None:
    for other in (bob, charlie):
        assert act(browser_of(other), image, what, count="1").status_code == 404
    assert Image.objects.get().trashed_at is None
    assert Job.objects.count() == 1


# What the page says ---------------------------------------------------------------------------------------


def test_its_stages_its_size_and_its_worker_are_told(client: Client, alice: User) -> None:
    job = finished(alice, width=144, height=96, count=2)
    Job.objects.update(load_seconds=9.2, save_seconds=0.4)
    page = text(client.get(f"/images/{job.images.first().pk}/"))  # type: ignore[union-attr]
    assert "144 × 96 · 3:2" in page
    assert "loaded 9.2 s, drew 1.7 s each, saved 0.4 s" in page.replace("\u00a0", " ")
    assert "1 of 2" in page or "2 of 2" in page


def test_its_request_draws_it_again(client: Client, alice: User) -> None:
    """What "Copy as curl" sends, sent to the API as it stands."""
    used = lora(owner=alice)
    image = finished(alice, loras=[(used, 0.8)], seed=41, count=2).images.get(index=1)
    found = re.search(r'data-request="([^"]*)"', text(client.get(image.get_absolute_url())))
    assert found
    request = json.loads(found.group(1).replace("&quot;", '"'))
    answer = client_of(alice).post("/api/v1/jobs/", request, format="json")
    assert answer.status_code == 201, answer.content
    again = Job.objects.get(pk=answer.json()["id"])
    assert (again.seed, again.count, again.prompt, again.weights) == (
        42, 1, image.job.prompt, [(used.sha256, 0.8)],
    )  # fmt: skip


def test_triggers_are_set_off_and_nothing_in_a_prompt_is_code(client: Client, alice: User) -> None:
    used = lora(owner=alice, trigger_words=["<b>", "at night"])
    job = finished(alice, prompt="<script>alert(1)</script> At Night <b>", loras=[(used, 1.0)])
    page = text(client.get(job.images.get().get_absolute_url()))
    assert "<script>alert" not in page
    assert '<b class="trigger">At Night</b> <b class="trigger">&lt;b&gt;</b>' in page


def test_a_lora_that_one_may_not_see_any_more_is_a_name(client: Client, alice: User, bob: User) -> None:
    image, used = with_lora(alice)
    address = used.get_absolute_url()
    assert address in text(client.get(image.get_absolute_url()))
    Lora.objects.update(owner=bob)
    page = text(client.get(image.get_absolute_url()))
    assert address not in page
    assert "Midnight" in page


def test_the_way_to_the_next_pictures_keeps_the_filters(client: Client, alice: User) -> None:
    first, second, third = (finished(alice).images.get() for _ in range(3))
    Image.objects.mark(favourite=True)
    query = "?q=yellow+star&favourite=1"
    assert f'href="{second.get_absolute_url()}{query.replace("&", "&amp;")}"' in text(
        client.get(f"/gallery/{query}")
    )
    page = text(client.get(f"{second.get_absolute_url()}{query}&other=x"))
    kept = query.replace("&", "&amp;")
    for address in (first.get_absolute_url(), third.get_absolute_url(), "/gallery/"):
        assert f'href="{address}{kept}"' in page
    assert "other=x" not in page
    assert "2 of 3" in page


def test_the_next_pictures_are_those_of_the_filtered_list(client: Client, alice: User) -> None:
    older, _, image, _, newer = (
        finished(alice, prompt=prompt).images.get()
        for prompt in ("a star", "a ring", "a star", "a ring", "a star")
    )
    page = text(client.get(f"{image.get_absolute_url()}?q=star"))
    assert f'id="newer" href="{newer.get_absolute_url()}?q=star"' in page
    assert f'id="older" href="{older.get_absolute_url()}?q=star"' in page
    assert "2 of 3" in page
    valley = Collection.objects.create(owner=alice, name="Valley")
    valley.add([older, image])
    page = text(client.get(f"{image.get_absolute_url()}?collection={valley.pk}"))
    assert 'id="newer"' not in page
    assert f'id="older" href="{older.get_absolute_url()}?collection={valley.pk}"' in page
    assert act(client, image, "trash", "?q=star")["Location"] == f"{older.get_absolute_url()}?q=star"


def test_filters_that_make_no_sense_are_left_out(client: Client, alice: User) -> None:
    older, image = (finished(alice).images.get() for _ in range(2))
    page = text(client.get(f"{image.get_absolute_url()}?seed=x"))
    assert f'id="older" href="{older.get_absolute_url()}"' in page


def test_its_page_takes_as_many_queries_however_many_pictures_there_are(
    client: Client, alice: User, django_assert_num_queries: Any, django_assert_max_num_queries: Any
) -> None:
    image = finished(alice, engine="fp4", seed=7).images.get()
    finished(alice, engine="bf16", seed=7)
    client.get(image.get_absolute_url())
    with django_assert_max_num_queries(22) as few:
        client.get(image.get_absolute_url())
    for _ in range(8):
        finished(alice, engine="bf16")
    with django_assert_num_queries(len(few)):
        client.get(image.get_absolute_url())


# Favourites, collections ----------------------------------------------------------------------------------


def test_the_heart_and_the_collections_act_on_this_picture(client: Client, image: Image, alice: User) -> None:
    """Their forms are those of the gallery, for one picture."""
    valley = Collection.objects.create(owner=alice, name="Valley")
    page = text(client.get(image.get_absolute_url()))
    heart = page.partition('id="favourite"')[2].partition(">")[0]
    assert 'formaction="/pictures/favourite/"' in heart
    assert f'name="image" value="{image.pk}" aria-pressed="false"' in heart
    assert f'name="collection" value="{valley.pk}"' in page
    client.post("/pictures/favourite/", {"image": image.pk})
    client.post("/pictures/collect/", {"image": image.pk, "collection": valley.pk})
    page = text(client.get(image.get_absolute_url()))
    heart = page.partition('id="favourite"')[2].partition(">")[0]
    assert 'formaction="/pictures/unfavourite/"' in heart
    assert f'formaction="/pictures/uncollect/" name="in_collection" value="{valley.pk}"' in page


# The trash ------------------------------------------------------------------------------------------------


def test_the_trash_leads_on_to_the_next_and_can_be_undone(client: Client, alice: User) -> None:
    older, image, newer = (finished(alice).images.get() for _ in range(3))
    answer = act(client, image, "trash", "?q=star")
    assert answer.url == f"{older.get_absolute_url()}?q=star"
    page = text(client.get(answer.url))
    undo = f"/images/{image.pk}/restore/?q=star"
    assert f'formaction="{undo}">Undo</button>' in page
    assert f'href="{newer.get_absolute_url()}' in page
    assert client.post(undo)["Location"] == f"{image.get_absolute_url()}?q=star"
    assert Image.objects.kept().count() == 3


def test_the_trash_of_the_last_picture_leads_to_the_gallery(client: Client, image: Image) -> None:
    assert act(client, image, "trash").url == "/gallery/"
    assert act(client, image, "trash").status_code == 404


def test_a_picture_in_the_trash_says_so_and_offers_two_ways(client: Client, image: Image) -> None:
    Image.objects.trash()
    page = text(client.get(image.get_absolute_url()))
    assert "This picture is in the trash." in page
    assert f'formaction="/images/{image.pk}/restore/"' in page
    assert f'formaction="/pictures/delete/" name="image" value="{image.pk}"' in page
    for gone in ("Finish in BF16", "Variations", "Share"):
        assert gone not in page
    assert act(client, image, "finish").status_code == 404
    assert act(client, image, "variations", count="1").status_code == 404


def test_a_picture_deleted_for_good_leaves_a_gap_in_its_job(client: Client, image: Image) -> None:
    Image.objects.trash()
    client.post("/pictures/delete/", {"image": image.pk, "sure": "yes"})
    assert not Image.objects.exists()
    assert "Deleted" in text(client.get(image.job.get_absolute_url()))


# Drawing on -----------------------------------------------------------------------------------------------


def test_variations_are_the_same_with_new_seeds(client: Client, alice: User) -> None:
    image, used = with_lora(alice, seed=7)
    answer = act(client, image, "variations", count="3")
    job = Job.objects.exclude(pk=image.job_id).get()
    assert answer.url == job.get_absolute_url()
    assert (job.parent, job.count, job.engine) == (image.job, 3, "fp4")
    assert job.seed != 7
    assert job.weights == [(used.sha256, 0.8)]
    kept = ("prompt", "width", "height", "steps", "lora_set")
    assert [getattr(job, name) for name in kept] == [getattr(image.job, name) for name in kept]


@pytest.mark.parametrize("count", ["0", "5", "many", "", "9" * 30, "9" * 2000, "-1"])
def test_how_many_variations_is_checked(client: Client, image: Image, count: str) -> None:
    page = text(act(client, image, "variations", count=count), 400)
    assert "Use a whole number from 1 to 4." in page
    assert Job.objects.count() == 1


@pytest.mark.parametrize("what", ["variations", "finish"])
def test_too_much_is_a_sentence_on_the_page_and_nothing_is_lost(
    client: Client, image: Image, what: str
) -> None:
    Quota.objects.create(images_a_day=0)
    answer = act(client, image, what, count="2")
    page = text(answer, 429)
    assert "Today&#x27;s 0 pictures are used." in page
    assert image.job.prompt in page
    assert int(answer["Retry-After"]) > 0
    assert Job.objects.count() == 1


@pytest.mark.parametrize("what", ["variations", "finish"])
def test_what_cannot_be_drawn_again_says_why(client: Client, alice: User, bob: User, what: str) -> None:
    image, _ = with_lora(alice)
    Lora.objects.update(owner=bob)
    page = text(act(client, image, what, count="1"), 400)
    assert "There is no LoRA midnight that you may use." in page
    JobLora.objects.update(lora=None)
    page = text(act(client, image, what, count="1"), 400)
    assert "Midnight is no longer in the library." in page
    assert Job.objects.count() == 1


def test_a_draft_is_finished_with_its_own_seed_alone(client: Client, alice: User) -> None:
    job = finished(alice, engine="fp4", seed=7, count=3)
    image = job.images.get(index=2)
    assert act(client, image, "finish").url == f"/images/{image.pk}/compare/"
    final = Job.objects.exclude(pk=job.pk).get()
    assert (final.engine, final.seed, final.count, final.parent) == ("bf16", 9, 1, job)


def test_a_draft_is_finished_once(client: Client, image: Image) -> None:
    """Clicked again while it waits, and when it is there."""
    act(client, image, "finish")
    final = Job.objects.exclude(pk=image.job_id).get()
    act(client, image, "finish")
    assert "It is being drawn in BF16 already." in text(client.get(f"/images/{image.pk}/compare/"))
    draw(final)
    Job.objects.filter(pk=final.pk).update(state="succeeded", attempt=1)
    act(client, image, "finish")
    assert "It is there in BF16 already." in text(client.get(f"/images/{image.pk}/compare/"))
    assert Job.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("drafts", [1, 5])
def test_of_many_clicks_at_once_only_one_draws(alice: User, drafts: int) -> None:
    """Also where each click is on another draft of the same recipe."""
    images = [finished(alice, engine="fp4", seed=7).images.get() for _ in range(drafts)]

    def click(number: int) -> bool:
        try:
            return Image.objects.get(pk=images[number % drafts].pk).finish_in("bf16")[1]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(5) as threads:
        assert sum(threads.map(click, range(5))) == 1
    assert Job.objects.filter(engine="bf16").count() == 1


def test_the_same_picture_drawn_by_hand_is_its_final(client: Client, alice: User, image: Image) -> None:
    submit(alice, engine="bf16", seed=5, count=4)  # 5, 6, 7, 8
    act(client, image, "finish")
    assert Job.objects.count() == 2


@pytest.mark.parametrize(
    "changes", [{"seed": 8}, {"steps": 5}, {"width": 128}, {"prompt": "another"}, {"engine": "fp4"}]
)
def test_another_picture_is_not_its_final(
    client: Client, alice: User, image: Image, changes: dict[str, Any]
) -> None:
    finished(alice, **{"engine": "bf16", "seed": 7, **changes})
    act(client, image, "finish")
    assert Job.objects.count() == 3


def test_other_weights_make_another_picture(client: Client, alice: User) -> None:
    image, used = with_lora(alice, seed=7)
    finished(alice, loras=[(used, 0.5)], engine="bf16", seed=7)
    submit(alice, loras=[(used, 0.4)], engine="bf16", seed=7)
    act(client, image, "finish")
    assert Job.objects.count() == 4
    assert [one.pk for one in image.family()] == [image.pk]


def test_however_often_a_seed_was_drawn_with_other_weights_its_final_is_drawn_once(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_image, "FAMILY_MOST", 3)
    first, used = with_lora(alice, seed=7)
    for weight in (0.1, 0.2, 0.3):
        finished(alice, loras=[(used, weight)], engine="fp4", seed=7)
    image = finished(alice, loras=[(used, 0.7)], engine="fp4", seed=7).images.get()
    final = finished(alice, loras=[(used, 0.7)], engine="bf16", seed=7).images.get()
    act(client, image, "finish")
    assert image.find_job_in("bf16") == final.job
    assert image.family() == final.family() == [image, final]
    assert first.family() == [first]


def test_of_too_many_the_family_has_the_other_engines_and_itself(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_image, "FAMILY_MOST", 3)
    drafts = [finished(alice, engine="fp4", seed=7).images.get() for _ in range(4)]
    final = finished(alice, engine="bf16", seed=7).images.get()
    assert drafts[0].family() == [drafts[0], drafts[3], final]
    assert drafts[3].family() == [*drafts[2:], final]
    assert final.family() == [*drafts[2:], final]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_final_that_was_not_drawn_can_be_asked_for_again(client: Client, image: Image, state: str) -> None:
    act(client, image, "finish")
    Job.objects.filter(engine="bf16").update(state=state, error="The worker stopped 3 times on this job.")
    page = text(client.get(f"/images/{image.pk}/compare/"))
    assert "The final was not drawn." in page
    assert "Finish in BF16" in page
    act(client, image, "finish")
    assert Job.objects.filter(engine="bf16").count() == 2


def test_a_final_in_the_trash_is_drawn_anew(client: Client, alice: User, image: Image) -> None:
    finished(alice, engine="bf16", seed=7).images.all().trash()
    act(client, image, "finish")
    assert Job.objects.filter(engine="bf16").count() == 2


def test_others_pictures_are_no_family(alice: User, bob: User, image: Image) -> None:
    finished(bob, engine="bf16", seed=7)
    assert image.family() == [image]
    assert image.find_job_in("bf16") is None


def test_a_draft_in_the_feed_can_be_finished(client: Client, alice: User, image: Image) -> None:
    assert f'formaction="/images/{image.pk}/finish/"' in text(client.get("/"))
    final = finished(alice, engine="bf16").images.get()
    assert f"/images/{final.pk}/finish/" not in text(client.get("/"))


def test_the_family_says_which_is_the_draft_and_which_the_final(
    client: Client, alice: User, image: Image
) -> None:
    assert "Family" not in text(client.get(image.get_absolute_url()))
    act(client, image, "finish")
    assert 'id="family" data-job=' in text(client.get(image.get_absolute_url()))
    Job.objects.filter(engine="bf16").delete()
    finished(alice, engine="bf16", seed=7)
    for one in Image.objects.all():
        page = text(client.get(one.get_absolute_url()))
        assert "FP4 draft" in page
        assert "BF16 final" in page
        assert f'href="/images/{one.pk}/compare/"' in page


def test_an_address_with_anything_in_it_is_answered(client: Client, image: Image) -> None:
    query = quote("'\"<>&%00", safe="")
    assert client.get(f"{image.get_absolute_url()}?q={query}&seed={query}").status_code == 200
