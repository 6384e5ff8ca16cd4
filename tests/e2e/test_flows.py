"""The way from the login to the history, without JavaScript and without a mouse."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.e2e.studio import PASSWORD, Studio
from tests.e2e.test_browser import READY, SECONDS, log_in

MOST_TABS = 80
# How the element that has the focus shows it: an outline, or a box drawn around it or its label.
SHOWS_FOCUS = """() => {
    const element = document.activeElement;
    const around = [element, element.closest("label"), element.parentElement].filter(Boolean);
    const shows = (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return around.map((one) => getComputedStyle(one)).some(shows);
}"""


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until what ``selector`` names has the focus, and shows it; each stop before shows it, too."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        stop = page.evaluate("() => document.activeElement.outerHTML.slice(0, 120)")
        assert page.evaluate(SHOWS_FOCUS), f"nothing shows that this has the focus: {stop}"
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never reaches {selector}; it ends at {stop}")


def test_without_javascript(studio: Studio, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page = context.new_page()
    log_in(page, studio)
    page.get_by_label("Prompt").fill("a red circle without a script")
    page.get_by_label("Seed", exact=True).fill("4711")
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page).to_have_url(re.compile("/jobs/"))
    expect(page.locator("[data-job] img")).to_have_count(1, timeout=SECONDS)  # the page reloads by itself
    expect(page.get_by_text("Where the time went")).to_be_visible(timeout=SECONDS)

    page.get_by_role("link", name="Gallery").last.click()
    page.locator("main a[href*='/images/']").first.click()
    expect(page.locator("main")).to_contain_text("a red circle without a script")

    page.get_by_role("link", name="History").last.click()
    page.get_by_label("Prompt or job id").fill("circle SCRIPT without")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody.row")).to_have_count(1)
    with page.expect_download() as csv:
        page.get_by_role("link", name="CSV").click()
    text = csv.value.path().read_text()
    assert text.count("a red circle without a script") == 1
    page.get_by_label("More of this job").click()
    page.get_by_role("button", name="Again with the same seed").click()
    expect(page).to_have_url(re.compile("/jobs/"))
    expect(page.locator("main")).to_contain_text("4 711".replace(" ", "\u202f"))
    expect(page.get_by_role("link", name="an earlier job")).to_be_visible()
    expect(page.locator("[data-job] img")).to_have_count(1, timeout=SECONDS)
    context.close()


def test_by_keyboard_alone(studio: Studio, page: Page) -> None:
    page.goto(f"{studio.url}/login/")
    page.keyboard.type("alice")  # the first field has the focus
    tab_to(page, "[name=password]")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")

    expect(page.locator(READY)).to_be_visible()
    page.keyboard.type("a blue ring by keyboard")
    tab_to(page, "#seed")
    page.keyboard.type("4712")
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-job][data-seed='4712'] img")).to_have_count(1, timeout=SECONDS)
    tab_to(page, "[data-job][data-seed='4712'] .tile a")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/images/"))
    expect(page.locator("main")).to_contain_text("a blue ring by keyboard")

    page.keyboard.press("g")
    page.wait_for_url(f"{studio.url}/gallery/")  # and until its scripts listen
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()

    page.keyboard.press("h")
    expect(page.locator("#find[data-ready=yes]")).to_be_visible()
    tab_to(page, "[name=q]")
    page.keyboard.type("ring KEYBOARD")
    expect(page.locator("tbody.row")).to_have_count(1)
    expect(page.locator(".history-head .total")).to_have_text("1 found")
    tab_to(page, ".row .menu > summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator(".row .menu-panel")).to_be_hidden()
    page.keyboard.press("Enter")
    tab_to(page, ".menu-item[value=same]")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/jobs/"))
    expect(page.locator("[data-job][data-seed='4712'] img")).to_have_count(1, timeout=SECONDS)
    expect(page.get_by_text("Where the time went")).to_be_visible()
