"""What a person does, in a real browser: from the first link to the picture in the gallery."""

import re
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect

from tests.e2e.pixels import mean, nearest, opened
from tests.e2e.studio import PASSWORD, Studio, wait_for

Start = Callable[..., Studio]
STAR = "a big yellow star on a blue background"
SECONDS = 60_000
FORM = "form#generate"
# Jobs that wait or are drawn.
ACTIVE = "from generation.models import Job; print(Job.objects.active().count())"
READY = f"{FORM}[data-ready=yes]"  # the page's script has begun to listen

# Keeps every text that the jobs have shown.
WATCH = """() => {
    window.shown = [];
    const look = () => {
        for (const job of document.querySelectorAll("[data-job]")) window.shown.push(job.innerText);
    };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def log_in(page: Page, studio: Studio, name: str = "alice") -> None:
    page.goto(f"{studio.url}/login/")
    page.get_by_label("User name or email").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator(FORM)).to_be_visible()


def picture_bytes(page: Page, address: str) -> bytes:
    response = page.request.get(address)
    assert response.ok
    return response.body()


def test_from_the_first_link_to_four_pictures_without_a_reload(start: Start, page: Page) -> None:
    studio = start()
    page.goto(studio.said(r"(http://127\.0\.0\.1:\d+/setup/\S+)"))
    page.get_by_label("User name").fill("ana")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name=re.compile("Create")).click()

    expect(page.locator(READY)).to_be_visible()
    page.get_by_label("Prompt").fill(STAR)
    page.get_by_text("4", exact=True).click()
    # More steps than the model needs, so that a poll is sure to see one.
    page.get_by_text("Size", exact=True).click()
    page.get_by_role("spinbutton", name="Steps").fill("40")
    page.evaluate(WATCH)
    for sent in (1, 2):  # the second waits in the queue while the first loads the model
        page.get_by_role("button", name=re.compile("^Generate")).click()
        expect(page.locator("[data-job]")).to_have_count(sent)
    expect(page.locator("[data-job] img")).to_have_count(8, timeout=SECONDS)
    assert page.get_by_label("Prompt").input_value() == STAR

    shown = " | ".join(page.evaluate("() => window.shown"))
    for stage in ("Queued", "Loading (FP4|BF16)", "Step [0-9]+ of 40"):
        assert re.search(stage, shown), f"{stage} was never shown: {shown[:2000]}"
    expect(page.locator("[data-job][data-state=succeeded]")).to_have_count(2)


def test_a_picture_reaches_the_gallery_with_its_recipe(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    expect(page.locator(READY)).to_be_visible()
    page.get_by_label("Prompt").fill(STAR)
    page.get_by_label("Seed", exact=True).fill("77")
    page.get_by_text("Full precision").click()
    page.get_by_label("Prompt").focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-job][data-seed='77'] img")).to_have_count(1, timeout=SECONDS)

    page.get_by_role("link", name="Gallery").first.click()
    page.locator("main a[href*='/images/']").first.click()
    recipe = page.locator("main")
    for fact in (STAR, "77", "128 × 128", "BF16", "fluxsite demo"):
        expect(recipe).to_contain_text(fact)

    address = f"{page.url}file/"
    image = opened(picture_bytes(page, address))
    assert image.size == (128, 128)
    assert nearest(mean(image, 0.45, 0.45, 0.55, 0.55)) == "yellow"
    assert nearest(mean(image, 0.02, 0.02, 0.12, 0.12)) == "blue"


def test_fp4_and_two_loras_are_chosen_on_the_page(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    expect(page.locator(READY)).to_be_visible()
    page.get_by_label("Prompt").fill("a midnight outlined star on blue")
    page.get_by_label("Seed", exact=True).fill("78")
    page.get_by_text("4 bits, less memory").click()
    page.locator("#add-lora").click()
    for slug, weight in (("night", "0.8"), ("outline", "-0.3")):
        page.locator(f"[data-pick={slug}]").click()
        page.locator(f"input[name=weight-{slug}]").fill(weight)
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page.locator("[data-job][data-seed='78'] img")).to_have_count(1, timeout=SECONDS)
    page.locator("[data-job][data-seed='78'] a:has(img)").click()
    for fact in ("FP4", "torchao", "nvfp4 weight-only", "0.80", "-0.30"):
        expect(page.locator("main")).to_contain_text(fact)


def test_bad_input_is_named_at_its_field_and_the_text_is_kept(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    expect(page.locator(READY)).to_be_visible()
    page.get_by_label("Prompt").fill("kept text")
    page.get_by_label("Seed", exact=True).fill("-1")
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page.get_by_text("Use a whole number from 0 to")).to_be_visible()
    assert page.get_by_label("Prompt").input_value() == "kept text"


def test_a_prompt_is_text_everywhere(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    expect(page.locator(READY)).to_be_visible()
    prompt = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page.locator("[data-job]").first).to_contain_text("<script>", timeout=SECONDS)
    expect(page.locator("[data-job]").first.locator("img")).to_have_count(1, timeout=SECONDS)
    for path in ("/", "/gallery/", "/history/"):
        page.goto(studio.url + path)
        assert "taken" not in page.title()
        assert page.locator("img[src='x']").count() == 0


def test_a_paused_engine_is_resumed_on_its_page_and_draws_what_waited(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    wait_for(lambda: studio.shell(ACTIVE) == "0")  # the LoRAs of a new studio are tried on FP4, too
    workers = page.context.new_page()
    workers.goto(f"{studio.url}/workers/")
    workers.get_by_role("button", name="Pause FP4", exact=True).click()
    card = workers.locator("section", has=workers.get_by_role("heading", name="FP4", exact=True))
    expect(card).to_contain_text("Paused by alice")

    expect(page.locator(READY)).to_be_visible()
    page.get_by_label("Prompt").fill(STAR)
    page.get_by_label("Seed", exact=True).fill("79")
    page.get_by_text("4 bits, less memory").click()
    page.get_by_role("button", name=re.compile("^Generate")).click()
    job = page.locator("[data-job][data-seed='79']")
    expect(job).to_contain_text("FP4 is paused")
    expect(page.locator("[data-engine=fp4]")).to_contain_text("Paused")
    expect(card).to_contain_text(re.compile(r"waiting\s*1\s"))

    workers.get_by_role("button", name="Resume FP4", exact=True).click()
    expect(card).not_to_contain_text("Paused")
    expect(job.locator("img")).to_have_count(1, timeout=SECONDS)


def test_the_api_explains_itself_without_a_script_of_the_pages(
    page: Page, browser: Browser, studio: Studio
) -> None:
    page.goto(f"{studio.url}/api/v1/docs/")
    page.get_by_text("/api/v1/jobs/{id}/cancel/").click()
    expect(page.get_by_text("Stop the job. 409 when it is over already.")).to_be_visible()
    # Not the fixture's page: Redoc asks for a picture of its maker's, which the policy refuses aloud.
    reader = browser.new_page()
    reader.goto(f"{studio.url}/api/v1/redoc/")
    expect(reader.get_by_role("heading", name="jobs_cancel_create")).to_be_visible()
    columns = reader.locator("#redoc > div > div").first
    assert columns.evaluate("element => getComputedStyle(element).display") == "flex"
    reader.close()
