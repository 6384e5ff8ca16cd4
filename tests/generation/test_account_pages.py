"""Usage, the chart, the ledger and the list of people: what they count, and who sees it."""

import csv
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Quota, UsageEntry, User
from generation import spreadsheet, usage
from generation.models import Image
from tests.accounts.test_invitations import invitation
from tests.conftest import let_administer
from tests.generation.drawn import finished
from tests.loras.test_uploads import GOOD, add

USAGE, PEOPLE, LEDGER = (reverse(f"generation:{name}") for name in ("usage", "people", "ledger"))


def entry(user: User | None, days_ago: float = 0, **facts: Any) -> UsageEntry:
    said = {"engine": "fp4", "images": 2, "gpu_seconds": 10.0, "outcome": "succeeded", "attempt": 1, **facts}
    when = timezone.now() - timedelta(days=days_ago)
    return UsageEntry.objects.create(user=user, job=uuid4(), created_at=when, **said)


def table(response: Any) -> list[list[str]]:
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith("attachment;")
    return list(csv.reader(b"".join(response.streaming_content).decode().splitlines()))


@pytest.fixture
def admin(client: Client, charlie: User) -> Client:
    """charlie, who sees people and the ledger and may offboard."""
    let_administer(charlie, "view_user", "view_usageentry", "delete_user")
    client.force_login(charlie)
    return client


# Usage ------------------------------------------------------------------------------------------------


def test_meters_show_ones_own_limits_and_those_of_groups(client: Client, alice: User, bob: User) -> None:
    Quota.objects.create(images_a_day=10, gpu_seconds_a_day=600)
    Quota.objects.create(group=Group.objects.get(name="team"), images_a_day=4)
    entry(alice)
    entry(bob)
    client.force_login(alice)
    page = client.get(USAGE).content.decode()
    for words in ("<b>2</b> <span>of 10</span>", "<b>0:10</b> <span>of 10:00 min</span>", "Shared by team"):
        assert words in page, words
    assert "<b>4</b> <span>of 4</span>" in page
    assert "Used up. More at 00:00" in page
    assert page.count("no limit") == 2  # jobs in flight, storage


def test_a_full_storage_names_what_the_trash_would_give(client: Client, alice: User) -> None:
    kept, thrown = (finished(alice).images.get() for _ in range(2))
    Image.objects.filter(pk=kept.pk).update(size=700_000)
    Image.objects.filter(pk=thrown.pk).update(size=200_000, trashed_at=timezone.now())
    Quota.objects.create(user=alice, storage_mb=1)
    client.force_login(alice)
    page = client.get(USAGE).content.decode()
    assert "Nearly full." in page
    assert "Empty the trash: 0.2 MB" in " ".join(page.split())


def test_the_chart_counts_each_of_the_last_days_by_engine(alice: User, bob: User) -> None:
    drawn = [(0, "fp4", 3), (0, "fp4", 1), (0, "bf16", 4), (13, "bf16", 2), (15, "fp4", 9)]
    for days_ago, engine, images in drawn:
        entry(alice, days_ago, engine=engine, images=images)
    entry(bob)
    days = usage.chart(alice)
    assert len(days) == usage.DAYS
    assert [(day.date - timezone.localdate()).days for day in days] == list(range(-13, 1))
    assert [day.images for day in days] == [2, *[0] * 12, 8]
    assert [(bar.engine, bar.images) for bar in days[0].bars] == [("fp4", 0), ("bf16", 2)]
    fp4, bf16 = days[-1].bars
    assert (fp4.y, fp4.height, bf16.y, bf16.height) == (50, 50, 0, 50)


def test_a_day_begins_at_midnight_in_the_studios_time_zone(alice: User, settings: Any) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"
    with timezone.override("Pacific/Auckland"):
        made = timezone.localtime(datetime(2026, 6, 30, 12, 30, tzinfo=UTC))  # 0:30 on the next day
        UsageEntry.objects.update_or_create(pk=entry(alice).pk, defaults={"created_at": made})
        (row,) = usage.ledger(made.date(), made.date())
        assert row.created_at == made
        assert not usage.ledger(made.date() - timedelta(days=1), made.date() - timedelta(days=1)).exists()


def test_without_a_picture_the_page_says_so_and_has_no_chart(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = client.get(USAGE).content.decode()
    assert "No pictures in these days." in page
    assert "No tokens yet." in page
    assert "chart-days" not in page


def test_the_chart_is_a_table_too(client: Client, alice: User) -> None:
    entry(alice, images=1234)
    client.force_login(alice)
    page = client.get(USAGE).content.decode()
    day = timezone.localdate().strftime("%-d %B")
    assert f'<th scope="row">{day}</th><td>1,234</td><td>0</td>' in page
    assert "style=" not in page


def test_ones_own_ledger_is_a_csv_of_ones_own(client: Client, alice: User, bob: User) -> None:
    mine = entry(alice, worker="=cmd()")
    entry(bob)
    client.force_login(alice)
    header, row = table(client.get(reverse("generation:usage-csv")))
    assert header == list(usage.ENTRIES)
    assert row[1:] == ["alice", str(mine.job), "1", "fp4", "'=cmd()", "succeeded", "2", "10.000"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@x", "\tx", "\rx", "\nx"])
def test_no_text_is_a_formula(text: str) -> None:
    assert spreadsheet.cell(text) == f"'{text}"


def test_numbers_stay_numbers_and_nothing_is_empty() -> None:
    assert [spreadsheet.cell(value) for value in (-2, -0.5, None, "a=b")] == [-2, "-0.500", "", "a=b"]


# People -----------------------------------------------------------------------------------------------


def test_people_are_listed_with_what_they_used(admin: Client, alice: User, bob: User) -> None:
    entry(alice, 29, images=1234, gpu_seconds=61)
    entry(alice, 31, images=5)
    image = finished(alice).images.get()
    Image.objects.filter(pk=image.pk).update(size=2_500_000)
    add(alice)
    page = admin.get(PEOPLE).content.decode()
    assert "1,234" in page
    assert "1:01" in page
    (person,) = usage.people([alice])
    assert (person.images, person.gpu_seconds) == (1234, 61)
    assert person.megabytes == pytest.approx(2.5 + len(GOOD) / 1e6)
    assert "alice@studio.example" in page


def test_the_list_takes_as_many_queries_for_many_as_for_few(
    admin: Client, alice: User, charlie: User, django_assert_num_queries: Any
) -> None:
    let_administer(charlie, "view_user", "add_invitation", "delete_invitation", "view_quota")
    invitation(alice)
    with CaptureQueriesContext(connection) as few:
        admin.get(PEOPLE)
    for number in range(30):
        invitation(User.objects.create_user(f"person-{number}")).groups.set(Group.objects.all())
    with django_assert_num_queries(len(few)):
        admin.get(PEOPLE)


def test_people_are_found_by_name_address_and_group(admin: Client, alice: User, bob: User) -> None:
    for words, found in (
        ("ali", {"alice"}),
        ("TEAM", {"alice", "bob"}),
        ("team bob@", {"bob"}),
        ("zoe", set()),
    ):
        page = admin.get(PEOPLE, {"q": words}).content.decode()
        assert {name for name in ("alice", "bob") if f"Offboard {name}" in page} == found
    assert "Nobody matches “zoe”" in page


def test_names_are_text_everywhere(admin: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(first_name="<script>x</script>")
    Group.objects.update(name="<script>y</script>")
    entry(alice)
    for address in (PEOPLE, LEDGER, reverse("generation:offboard", args=[alice.pk])):
        assert "<script>x" not in admin.get(address, {"q": "<script>z"}).content.decode()
        assert "<script>y" not in admin.get(address).content.decode()


def test_quotas_are_shown_to_who_may_see_them(admin: Client, charlie: User) -> None:
    Quota.objects.create(images_a_day=77)
    assert ">77</td>" not in admin.get(PEOPLE).content.decode()
    let_administer(charlie, "view_user", "view_quota", "change_quota")
    page = admin.get(PEOPLE).content.decode()
    assert '<td data-label="Pictures a day" class="number">77</td>' in page
    assert reverse("admin:accounts_quota_change", args=[Quota.objects.get().pk]) in page


# The ledger -------------------------------------------------------------------------------------------


def test_the_ledger_adds_up_by_user(admin: Client, alice: User, bob: User) -> None:
    for outcome in ("succeeded", "failed", "lost"):
        entry(alice, outcome=outcome)
    entry(bob, gpu_seconds=100)
    entry(None, gpu_seconds=1)
    entry(bob, 40)
    rows = usage.sums(usage.ledger(timezone.localdate(), timezone.localdate()))
    assert [(row["user"], row["attempts"], row["images"], row["gpu_seconds"]) for row in rows] == [
        ("bob", 1, 2, 100), ("alice", 3, 6, 30), ("(the studio)", 1, 2, 1),
    ]  # fmt: skip
    assert [rows[1][outcome] for outcome in usage.OUTCOMES] == [1, 1, 0, 1, 0]
    page = admin.get(LEDGER).content.decode()
    assert "2:11" in page  # all of it


def test_the_ledger_is_of_days_and_of_a_group(admin: Client, alice: User, charlie: User) -> None:
    entry(alice, 3)
    entry(charlie, 3)
    day = (timezone.localdate() - timedelta(days=3)).isoformat()
    asked: dict[str, Any] = {"first": day, "last": day}
    sums = reverse("generation:ledger-csv")
    assert [row[0] for row in table(admin.get(sums, asked))] == ["user", "alice", "charlie"]
    team = Group.objects.get(name="team")
    assert [row[0] for row in table(admin.get(sums, {**asked, "group": team.pk}))] == ["user", "alice"]
    before = (timezone.localdate() - timedelta(days=4)).isoformat()
    assert (
        "Nothing was drawn in these days."
        in admin.get(LEDGER, {"first": before, "last": before}).content.decode()
    )
    each = table(admin.get(sums, {**asked, "each": ""}))
    assert each[0] == list(usage.ENTRIES)
    assert [row[1] for row in each[1:]] == ["alice", "charlie"]


def test_dates_that_are_none_are_left_out(admin: Client, alice: User) -> None:
    entry(alice, 29)
    entry(alice, 30, images=1)
    rows = table(admin.get(reverse("generation:ledger-csv"), {"first": "yesterday", "group": "x"}))
    assert rows[1][:4] == ["alice", "1", "1", "2"]


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9999-12-31"])
@pytest.mark.parametrize("field", ["first", "last"])
def test_days_beyond_all_time_are_left_out(admin: Client, alice: User, field: str, day: str) -> None:
    entry(alice)
    for name in ("ledger", "ledger-csv"):
        assert admin.get(reverse(f"generation:{name}"), {field: day}).status_code == 200
    (row,) = table(admin.get(reverse("generation:ledger-csv"), {field: day}))[1:]
    assert row[0] == "alice"


def test_a_long_ledger_is_read_in_chunks(
    alice: User, bob: User, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(usage, "CHUNK", 2)
    made = [entry(owner, days_ago=5 - number) for number, owner in enumerate((alice, bob, None, bob, alice))]
    with django_assert_num_queries(4):
        rows = list(usage.rows_of(UsageEntry.objects.all()))
    assert [row[2] for row in rows] == [one.job for one in made]


@pytest.mark.parametrize(
    ("name", "permission"),
    [("people", "view_user"), ("ledger", "view_usageentry"), ("ledger-csv", "view_usageentry")],
)
def test_a_page_takes_the_permission_for_what_it_shows(
    client: Client, alice: User, bob: User, charlie: User, name: str, permission: str
) -> None:
    others = {"view_user", "view_usageentry", "delete_user", "add_invitation"} - {permission}
    let_administer(bob, *others)
    let_administer(charlie, permission)
    for user, status in ((alice, 403), (bob, 403), (charlie, 200)):
        client.force_login(user)
        assert client.get(reverse(f"generation:{name}")).status_code == status
    charlie.is_staff = False
    charlie.save(update_fields=["is_staff"])
    assert client.get(reverse(f"generation:{name}")).status_code == 403


def test_the_list_shows_what_one_may_do(client: Client, alice: User, charlie: User) -> None:
    let_administer(charlie, "view_user")
    client.force_login(charlie)
    page = client.get(PEOPLE).content.decode()
    for words in ("Offboard alice", "Usage ledger", "Invite somebody", ">Quotas<"):
        assert words not in page, words
    let_administer(charlie, "view_user", "delete_user", "view_usageentry", "add_invitation", "view_quota")
    page = client.get(PEOPLE).content.decode()
    for words in ("Offboard alice", "Usage ledger", "Invite somebody", ">Quotas<"):
        assert words in page, words


def test_the_way_to_people_is_shown_to_who_may_see_them(client: Client, alice: User) -> None:
    let_administer(alice)
    client.force_login(alice)
    assert PEOPLE not in client.get("/gallery/").content.decode()
    let_administer(alice, "view_user")
    assert PEOPLE in client.get("/gallery/").content.decode()
