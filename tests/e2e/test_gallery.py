"""The gallery in a real browser, by mouse and by keys alone: to choose, to take back, to come back."""

import io
import re
import zipfile

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.studio import Api, Studio
from tests.e2e.test_browser import log_in

READY = "#selection[data-ready=yes]"
TILES = "#gallery li"
SEED = """
from datetime import timedelta
from django.utils import timezone
from accounts.models import User
from generation.models import Collection, Image, Job
from generation.moments import moment_at
job = Job.objects.filter(prompt="{prompt}", state="succeeded").latest("id")
first = job.images.get()
other = ("_state", "id", "index", "moment")
own = {{name: value for name, value in vars(first).items() if name not in other}}
copies = [Image(**own, index=number, moment=first.moment - number * 2**40) for number in range(1, 150)]
Image.objects.bulk_create(copies)
print(len(copies))
"""


@pytest.fixture(scope="module")
def prompt(studio: Studio, api: Api) -> str:
    """The prompt of one hundred and fifty pictures of some days, which share one file."""
    words = "a green ring of the gallery"
    api.draw(words, seed=3)
    assert studio.shell(SEED.format(prompt=words)) == "149"
    return words


def open_gallery(page: Page, studio: Studio, query: str = "?q=ring+gallery") -> Locator:
    log_in(page, studio)
    page.goto(f"{studio.url}/gallery/{query}")
    expect(page.locator(READY)).to_be_visible()
    return page.locator(TILES)


def test_by_mouse_many_are_chosen_thrown_away_and_taken_back(studio: Studio, page: Page, prompt: str) -> None:
    tiles = open_gallery(page, studio)
    bar = page.get_by_role("toolbar")
    expect(bar).to_be_hidden()
    tiles.nth(1).hover()
    tiles.nth(1).locator(".ring").click()
    tiles.nth(4).locator(".ring").click(modifiers=["Shift"])
    expect(page.locator("#selected")).to_have_text("4 selected")
    tiles.nth(6).locator("a").click()  # while some are chosen a click chooses
    expect(page.locator("#selected")).to_have_text("5 selected")

    bar.get_by_role("button", name="Favourite").click()
    expect(page.locator("#toasts")).to_contain_text("5 pictures in your favourites")
    expect(tiles.nth(2).locator(".heart")).to_have_attribute("aria-pressed", "true")

    bar.get_by_text("Add to collection").click()
    bar.get_by_label("Name of a new collection").fill("Rings")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("5 pictures in Rings")

    bar.get_by_text("Download ZIP").click()
    with page.expect_download() as download:
        bar.get_by_role("button", name="With recipes").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert len(archive.namelist()) == 5
        assert archive.testzip() is None

    thrown = tiles.nth(1).locator(".ring").input_value()
    bar.get_by_role("button", name="Move to trash").click()
    expect(page.locator("#toasts")).to_contain_text("5 pictures moved to trash")
    expect(page.locator(f"{TILES} .ring[value='{thrown}']")).to_have_count(0)
    expect(bar).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(tiles.nth(1).locator(".ring")).to_have_value(thrown)
    page.reload()
    expect(tiles.nth(1).locator(".ring")).to_have_value(thrown)


def test_by_keys_alone(studio: Studio, page: Page, prompt: str) -> None:
    tiles = open_gallery(page, studio)
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(0).locator("a")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(1).locator("a")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(tiles.nth(1).locator("a")).not_to_be_focused()
    page.evaluate("document.querySelector('#gallery li a').focus()")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    expect(page.locator("#selected")).to_have_text("3 selected")
    page.keyboard.press("Escape")
    expect(page.get_by_role("toolbar")).to_be_hidden()

    # Only one picture is a stop of Tab: its link, its ring, its heart.
    stops = page.locator("#gallery :is(a, input, button)[tabindex='0']")
    expect(stops).to_have_count(3)

    here = tiles.nth(2)
    was = here.locator(".heart").get_attribute("aria-pressed")
    page.keyboard.press(".")
    expect(here.locator(".heart")).not_to_have_attribute("aria-pressed", str(was))

    pk = here.locator(".ring").input_value()
    page.keyboard.press("Delete")
    expect(page.locator(f"{TILES} .ring[value='{pk}']")).to_have_count(0)
    expect(tiles.nth(2).locator("a")).to_be_focused()  # the one after it
    expect(page.locator("#toasts")).to_contain_text("1 picture moved to trash")

    page.goto(f"{studio.url}/trash/")
    expect(page.locator(READY)).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete 1 picture for good?")
    expect(dialog.get_by_role("link", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("toolbar").get_by_role("button", name="Restore").click()
    expect(page.locator("#toasts")).to_contain_text("1 picture restored")

    page.goto(f"{studio.url}/gallery/")
    expect(page.locator(READY)).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("x. lighthouse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No picture matches")).to_be_visible()


def test_more_come_by_themselves_and_the_back_key_returns_to_the_place(
    studio: Studio, page: Page, prompt: str
) -> None:
    tiles = open_gallery(page, studio)
    shift = "() => performance.getEntriesByType('layout-shift').length"
    page.mouse.move(600, 500)
    for _ in range(20):
        page.mouse.wheel(0, 2500)
        page.wait_for_timeout(100)
        if tiles.count() >= 149:
            break
    expect(page.locator("#more")).to_have_count(0)
    ids = page.eval_on_selector_all(f"{TILES} .ring", "rings => rings.map(ring => ring.value)")
    assert len(ids) == len(set(ids)) >= 149
    assert page.evaluate(shift) == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    picture = tiles.nth(130).locator("a")
    picture.scroll_into_view_if_needed()
    page.wait_for_timeout(400)
    place = page.evaluate("scrollY")
    picture.click()
    expect(page).to_have_url(re.compile(r"/images/.*\?q=ring"))
    page.go_back()
    expect(picture).to_be_in_viewport()
    assert abs(page.evaluate("scrollY") - place) < 300
    page.keyboard.press("Control+a")
    expect(page.locator("#selected")).to_have_text(f"{len(ids)} selected")


def test_a_picture_that_is_drawn_while_the_gallery_is_open_appears(
    studio: Studio, page: Page, api: Api, prompt: str
) -> None:
    log_in(page, studio)
    job = api.submit("a red circle of the gallery", steps=40)
    page.goto(f"{studio.url}/gallery/")
    expect(page.locator(READY)).to_be_visible()
    api.finished(job["id"])
    shown = page.locator(f"{TILES} img[alt='a red circle of the gallery']")
    expect(shown).to_have_count(1, timeout=20_000)


def test_it_works_without_javascript(studio: Studio, browser: Browser, prompt: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, studio)
    page.goto(f"{studio.url}/gallery/")
    page.get_by_label("Search prompt, seed, LoRA").fill("ring gallery")
    page.get_by_role("button", name="Search").click()
    page.locator(".filters summary", has_text="Engine").click()
    page.get_by_role("link", name="BF16", exact=True).click()
    tiles = page.locator(TILES)
    expect(tiles).to_have_count(60)
    thrown = tiles.nth(5).locator(".ring").input_value()
    tiles.nth(5).locator(".ring").check()
    page.get_by_role("toolbar").get_by_role("button", name="Move to trash").click()
    expect(page).to_have_url(re.compile("q=ring"))
    expect(page.locator("#toasts")).to_contain_text("1 picture moved to trash")
    page.goto(f"{studio.url}/trash/")
    page.locator(f".ring[value='{thrown}']").check()
    page.get_by_role("toolbar").get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", name="Delete 1 picture for good?")).to_be_visible()
    page.get_by_role("link", name="Keep it").click()
    page.locator(f".ring[value='{thrown}']").check()
    page.get_by_role("button", name="Restore").click()
    expect(page.locator("#toasts")).to_contain_text("1 picture restored")
    context.close()
