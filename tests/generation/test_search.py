"""Pictures are found by words and facts, newest first, through the full text index."""

import unicodedata

import pytest
from django.db import connection

from accounts.models import User
from generation import search
from generation.models import Collection, Image, Job
from tests.generation.drawn import finished

pytestmark = pytest.mark.django_db


def picture(owner: User, prompt: str, **changes: object) -> Image:
    return finished(owner, prompt=prompt, **changes).images.get()


def found(owner: User, words: str = "", *facts: str) -> list[Image]:
    return list(Image.objects.matching(owner, words, facts).newest_first())


def test_all_the_words_are_wanted_whatever_their_order_case_and_ending(alice: User) -> None:
    old = picture(alice, "Two mountains, and a star!")
    new = picture(alice, "a STAR over the mountain")
    picture(alice, "a star over the sea")
    assert found(alice, "mountain star") == [new, old]
    assert len(found(alice, "a")) == 3  # no word is too common


def test_words_are_whole(alice: User) -> None:
    picture(alice, "a starfish")
    assert found(alice, "star") == []


@pytest.mark.parametrize("prompt", ["a café at night", "a cafe at night", "a cafe\u0301 at night"])
def test_accents_of_latin_letters_do_not_matter(alice: User, prompt: str) -> None:
    image = picture(alice, prompt)
    for words in ("cafe", "café", "CAFÉ", "cafe\u0301", "cafés"):
        assert found(alice, words) == [image], words


def test_other_letters_are_what_they_are(alice: User) -> None:
    image = picture(alice, "мой дом, 한국 ø")
    for words in ("мой", "한국", unicodedata.normalize("NFD", "한국"), "ø"):
        assert found(alice, words) == [image], words
    assert found(alice, "мои") == found(alice, "o") == []


def test_a_seed_is_a_word(alice: User) -> None:
    image = picture(alice, "a star", seed=418207732)
    picture(alice, "a star", seed=418207733)
    assert found(alice, "418207732") == [image]


def test_facts_are_the_engine_and_the_loras(alice: User) -> None:
    bf16 = picture(alice, "a star")
    fp4 = picture(alice, "a star", engine="fp4")
    assert found(alice, "", "fp4") == [fp4]
    assert found(alice, "star", "bf16") == [bf16]


def test_no_prompt_can_forge_a_fact(alice: User) -> None:
    picture(alice, f"fp4 u{alice.pk} facts:fp4")
    assert found(alice, "", "fp4") == []
    assert len(found(alice, "fp4")) == 1


def test_what_is_somebody_elses_is_not_found(alice: User, bob: User) -> None:
    picture(alice, f"a star u{bob.pk}")
    assert found(bob, "star") == []


@pytest.mark.parametrize(
    "words", ['"', "star OR", "NEAR(", "words:", "star*", "' & !", "a\x00b", "(", "\\", "%s"]
)
def test_what_looks_like_a_query_language_is_only_words(alice: User, words: str) -> None:
    image = picture(alice, "a red circle")
    of_words = any(letter.isalnum() for letter in words)  # of which the picture has none
    assert found(alice, words) == ([] if of_words else [image])


def test_a_question_without_a_word_finds_everything(alice: User) -> None:
    image = picture(alice, "a star")
    assert found(alice, " …! ") == [image]


def test_words_that_change_are_found_anew_and_what_is_deleted_is_not(alice: User) -> None:
    image = picture(alice, "a star")
    Image.objects.filter(pk=image.pk).update(words="a ring")
    assert found(alice, "star") == []
    assert found(alice, "ring") == [image]
    image.delete()
    assert found(alice, "ring") == []


def test_pages_of_what_was_found_go_both_ways(alice: User) -> None:
    job = Job.objects.get(pk=finished(alice, count=4).pk)
    one, two, three, four = job.images.order_by("moment")
    hits = Image.objects.matching(alice, "star")
    assert list(hits.before(three.moment)) == [two, one]
    assert list(hits.after(two.moment)) == [three, four]
    assert hits.count_to(3) == 3


def test_within_a_list_the_same_is_found_in_its_own_order(alice: User) -> None:
    old, new, other = picture(alice, "a star"), picture(alice, "a star"), picture(alice, "a ring")
    valley = Collection.objects.create(owner=alice, name="Valley")
    valley.add([new, old, other])
    inside = Image.objects.visible_to(alice).in_collection(valley)
    found = inside.matching(alice, "stars", ["bf16"], within=True)
    assert list(found.newest_first()) == [new, old]
    assert list(found.before(new.moment)) == [old]
    assert not inside.matching(alice, "star", ["fp4"], within=True).exists()


on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="a matter of SQLite")


@on_sqlite
def test_a_table_that_a_migration_rebuilt_is_indexed_again(alice: User) -> None:
    with connection.cursor() as cursor:
        for trigger in ("added", "changed", "deleted"):
            cursor.execute(f"DROP TRIGGER generation_image_text_{trigger}")
    image = picture(alice, "a star")
    assert found(alice, "star") == []
    search.install()
    assert found(alice, "star") == [image]
    image.delete()
    assert found(alice, "star") == []


@on_sqlite
def test_a_list_is_answered_by_an_index(alice: User) -> None:
    """Neither every picture is read, nor are they sorted."""
    mine = Image.objects.visible_to(alice).kept()
    for pictures in (mine, mine.filter(favourite=True), mine.matching(alice, "star")):
        plan = pictures.newest_first().before(2**62)[:60].explain()
        assert "TEMP B-TREE" not in plan
        assert "USING INDEX image_" in plan
