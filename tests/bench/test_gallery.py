"""The bench of the gallery, with few pictures: the pages show what it seeds; its table says what holds."""

import pytest

from accounts.models import User
from bench import gallery
from bench.gallery import Figure, Visitor
from generation.models import Image, Job


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch, settings: object) -> None:
    monkeypatch.setattr(gallery, "BASE", 100)
    monkeypatch.setattr(gallery, "COLLECTED", 70)
    monkeypatch.setattr(gallery, "TURNS", 1)


@pytest.mark.django_db
@pytest.mark.usefixtures("_few")
def test_what_is_seeded_is_what_the_pages_show() -> None:
    gallery.seed(300, vacuum=False)
    assert Image.objects.count() == Job.objects.count() == 300 + gallery.RARE
    ana = User.objects.get(username="ana")
    assert 200 < Image.objects.visible_to(ana).count() < 320
    assert Image.objects.matching(ana, "obelisk").count() == gallery.RARE
    assert Image.objects.matching(ana, "star").count_to(1000) > 80
    assert list(Image.objects.order_by("moment").values_list("seed", flat=True)[:3]) == [0, 1, 2]
    counts = Visitor().counts()
    assert set(counts) == set(Visitor().turn())
    assert max(queries for queries, _, _ in counts.values()) <= 12
    assert counts["first page"][1] < gallery.WANTED_BYTES


def test_the_table_says_what_does_not_hold() -> None:
    quick, slow = Figure(10, 20, 8, 80_000, 9), Figure(12, 41, 8, 80_000, 11)
    figures = {("sqlite", size, "first page"): figure for size, figure in ((10, quick), (99, slow))}
    assert gallery.table(figures).splitlines()[2] == (
        "| first page | sqlite | 10.0 / 20.0 | 12.0 / 41.0 | 2.05 × | 9 → 11 ms | 8 | 80 kB | **no** |"
    )
    assert gallery.holds([quick, quick])
    assert not gallery.holds([quick, Figure(10, 20, 8, 160_000, 9)])
