"""The library in a real browser, with real workers on both engines."""

import base64
import re
from pathlib import Path

from django.conf import settings
from playwright.sync_api import Page, expect

from tests.e2e.studio import Studio
from tests.e2e.test_browser import READY, SECONDS, log_in

DEMO_LORAS = Path(settings.BASE_DIR) / "demo" / "loras"
DROP = """(files) => {
    const dropped = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        dropped.items.add(new File([bytes], name));
    }
    for (const kind of ["dragover", "drop"]) {
        const event = new DragEvent(kind, {dataTransfer: dropped, bubbles: true, cancelable: true});
        document.getElementById("drop").dispatchEvent(event);
    }
}"""
# Four trials, and those of the studio's own LoRAs, on two cores.
TRIALS = 4 * SECONDS


def drop(page: Page, **files: bytes) -> None:
    page.evaluate(DROP, [(f"{name}.safetensors", base64.b64encode(files[name]).decode()) for name in files])


def test_two_loras_are_dropped_tried_and_drawn_with(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    page.goto(f"{studio.url}/loras/")
    expect(page.locator("#drop[data-ready=yes]")).to_be_visible()
    loras = {name: (DEMO_LORAS / f"{name}.safetensors").read_bytes() for name in ("night", "outline")}
    drop(page, **loras, archive=b"PK\x03\x04 a checkpoint")

    refused = page.locator("#uploads li", has_text="archive.safetensors")
    expect(refused).to_contain_text("This is a ZIP archive")
    for name in loras:
        expect(page.locator("#uploads li", has_text=f"{name}.safetensors")).to_contain_text(
            "Ready", timeout=TRIALS
        )

    page.goto(f"{studio.url}/loras/?show=mine&sort=name")
    cards = page.locator(".library-card")
    expect(cards).to_have_count(2)
    for card in cards.all():
        expect(card.locator(".admission.works")).to_have_text([re.compile("FP4"), re.compile("BF16")])
        assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    night, outline = (card.get_attribute("data-slug") for card in cards.all())

    cards.first.get_by_role("link", name="Try it").click()
    expect(page.locator(READY)).to_be_visible()
    page.get_by_label("Prompt").fill("a midnight outlined star on blue")
    page.get_by_label("Seed", exact=True).fill("91")
    page.locator("#add-lora").click()
    page.locator(f"[data-pick={outline}]").click()
    for slug, weight in ((night, "0.8"), (outline, "-0.3")):
        page.locator(f"input[name=weight-{slug}]").fill(weight)
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page.locator("[data-job][data-seed='91'] img")).to_have_count(1, timeout=SECONDS)
    page.locator("[data-job][data-seed='91'] a:has(img)").click()
    for fact in ("0.80", "-0.30"):
        expect(page.locator("main")).to_contain_text(fact)

    page.goto(f"{studio.url}/loras/{night}/")
    expect(page.locator(".pair img")).to_have_count(2)
    expect(page.locator(".examples-with img")).to_have_count(1)


def test_the_search_answers_while_typing_and_an_upload_can_be_cancelled(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    page.goto(f"{studio.url}/loras/")
    expect(page.locator("#drop[data-ready=yes]")).to_be_visible()
    page.get_by_label("Search name").fill("moonlit")
    expect(page.locator(".library-card").first).to_contain_text("Night")
    expect(page.locator(".library-card", has_text="Outline")).to_have_count(0)
    page.get_by_label("Search name").fill("nothing of that name")
    expect(page.get_by_text("No LoRA found")).to_be_visible()

    page.route("**/api/v1/loras/", lambda route: None)  # the line is slow
    drop(page, slow=b"x" * 100_000)
    sent = page.locator("#uploads li", has_text="slow.safetensors")
    sent.get_by_role("button", name="Cancel").click()
    expect(sent).to_have_count(0)
