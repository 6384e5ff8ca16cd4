"""From the draft to its final and to somebody without an account, in a real browser with real workers."""

import re

from playwright.sync_api import Browser, Page, expect

from generation import png_metadata
from tests.e2e.studio import Api, Studio
from tests.e2e.test_browser import SECONDS, log_in, picture_bytes

PROMPT = "Misty mountains under an orange sky with a sun"
READY = "#compare[data-ready=yes]"
AT = "() => document.getElementById('pair').style.getPropertyValue('--at')"
# A person's press: after the page's scripts have begun to listen.
LISTENS = ".stage-link img.fitted"


def draft(api: Api, seed: int) -> str:
    """The page of a new FP4 picture."""
    job = api.finished(api.submit(PROMPT, engine="fp4", seed=seed, width=192, height=128)["id"])
    return f"/images/{job['images'][0]['id']}/"


def plates(page: Page) -> list[str]:
    return page.locator("#pair .plate").all_inner_texts()


def test_a_draft_is_finished_compared_and_kept_by_mouse(studio: Studio, api: Api, page: Page) -> None:
    address = draft(api, seed=501)
    log_in(page, studio)
    page.goto(studio.url + address)
    page.get_by_role("button", name="Finish in BF16").click()
    expect(page).to_have_url(re.compile("/compare/"))
    expect(page.locator(READY)).to_be_attached(timeout=SECONDS)  # by itself, once it is drawn
    assert plates(page) == ["FP4 draft", "BF16 final"]

    box = page.locator("#pair .compare-picture").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60, steps=3)
    page.mouse.up()
    assert 24 <= float(page.evaluate(AT).removesuffix("%")) <= 26

    page.get_by_role("button", name="Difference").click()
    expect(page.get_by_text("differences are shown 4 times as bright")).to_be_visible()
    page.get_by_role("button", name="Side by side").click()
    first, second = (page.locator("#pair img").nth(i).bounding_box() for i in (0, 1))
    assert first
    assert second
    assert first["x"] + first["width"] <= second["x"]

    page.goto(studio.url + address)
    page.locator("#family").get_by_role("link", name="BF16 final").click()
    page.locator("#family").get_by_role("link", name="Compare").click()
    page.get_by_role("button", name="Keep BF16").click()
    expect(page.get_by_text("Picture moved to trash")).to_be_visible()
    expect(page.locator("main")).to_contain_text("BF16 4 steps")
    page.get_by_role("button", name="Undo").click()
    expect(page).to_have_url(studio.url + address)
    expect(page.get_by_role("link", name="Compare with BF16")).to_be_visible()


def test_a_draft_is_finished_compared_and_thrown_away_by_keys(studio: Studio, api: Api, page: Page) -> None:
    address = draft(api, seed=511)
    log_in(page, studio)
    page.goto(studio.url + address)
    expect(page.locator(LISTENS)).to_be_visible()
    page.keyboard.press(".")
    expect(page.locator("#favourite")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#live")).to_have_text("Favourite")
    page.locator("#finish").focus()
    page.keyboard.press("Enter")
    expect(page.locator(READY)).to_be_attached(timeout=SECONDS)

    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.evaluate(AT) == "60%"
    page.keyboard.press("Space")
    assert plates(page) == ["BF16 final", "FP4 draft"]
    page.keyboard.press("z")
    expect(page.locator("#zoom")).to_have_text(re.compile("Full size 100 %"))
    page.keyboard.press("Z")
    expect(page.locator("#zoom")).to_have_text(re.compile("Fit"))

    page.goto(studio.url + address)
    expect(page.locator(LISTENS)).to_be_visible()
    expect(page.locator("#favourite")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Delete")
    expect(page.get_by_text("Picture moved to trash")).to_be_visible()
    page.goto(studio.url + address)
    expect(page.get_by_text("This picture is in the trash.")).to_be_visible()


def test_the_final_arrives_on_the_drafts_own_page(studio: Studio, api: Api, page: Page) -> None:
    address = draft(api, seed=521)
    log_in(page, studio)
    page.goto(studio.url + address)
    # Many steps take long enough to be seen; the same recipe is the same picture.
    slow = api.submit("a star", engine="bf16", steps=40, count=2, width=192, height=128)
    api.submit(PROMPT, engine="bf16", seed=521, width=192, height=128)
    page.reload()
    expect(page.locator("#family .family-job")).to_be_visible()
    expect(page.locator("#family .plate")).to_have_text(["FP4 draft", "BF16 final"], timeout=SECONDS)
    expect(page.locator("#finish")).to_have_text("Compare with BF16")
    api.finished(slow["id"])


def test_a_link_shows_a_picture_until_it_is_revoked(
    studio: Studio, api: Api, page: Page, browser: Browser
) -> None:
    address = draft(api, seed=531)
    log_in(page, studio)
    page.goto(studio.url + address)
    page.get_by_role("link", name="Share").click()
    dialog = page.get_by_role("dialog", name="Share this picture")
    dialog.get_by_text("30 days").click()
    dialog.get_by_role("button", name="Make a link").click()
    expect(dialog.locator("#share-address")).to_be_focused()
    link = dialog.locator("#share-address").input_value()

    context = browser.new_context(viewport={"width": 390, "height": 844})
    visitor = context.new_page()
    visitor.goto(link)
    expect(visitor.get_by_text("Shared by alice")).to_be_visible()
    expect(visitor.get_by_text("Made with AI")).to_be_visible()
    assert PROMPT not in visitor.content()
    assert (
        visitor.locator("main img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 192
    )
    with visitor.expect_download() as download:
        visitor.get_by_role("link", name="Download").click()
    png = download.value.path().read_bytes()
    assert png == png_metadata.without_recipe(picture_bytes(page, f"{studio.url}{address}file/"))
    assert visitor.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert context.cookies() == []

    dialog.get_by_role("button", name="Revoke").click()
    expect(dialog.get_by_text("Closed")).to_be_visible()
    response = visitor.reload()
    assert response
    assert response.status == 404
    expect(visitor.get_by_text("This link leads nowhere now")).to_be_visible()
    context.close()


def test_drafts_are_finished_and_shared_without_javascript(
    studio: Studio, api: Api, browser: Browser
) -> None:
    address = draft(api, seed=541)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, studio)
    page.goto(studio.url + address)
    page.get_by_role("button", name="Finish in BF16").click()
    expect(page.locator("#pair img")).to_have_count(2, timeout=SECONDS)  # the page looks again by itself
    first, second = (page.locator("#pair img").nth(i).bounding_box() for i in (0, 1))
    assert first
    assert second
    assert first["x"] + first["width"] <= second["x"]

    page.goto(studio.url + address)
    page.get_by_role("link", name="Share").click()
    page.get_by_role("button", name="Make a link").click()
    page.goto(page.locator("#share-address").input_value())
    expect(page.locator("main img")).to_be_visible()
    context.close()
