"""An account in a real browser: tokens by keyboard, an invitation from one browser to another."""

import re
import time

import requests
from playwright.sync_api import Browser, Page, expect

from tests.e2e.studio import PASSWORD, Studio
from tests.e2e.test_browser import log_in


def test_a_token_is_made_and_copied_by_keyboard(studio: Studio, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=studio.url)
    log_in(page, studio)
    page.goto(f"{studio.url}/account/usage/")
    expect(page.get_by_role("progressbar").or_(page.get_by_text("no limit")).first).to_be_visible()
    name = f"n8n {time.time_ns()}"

    page.locator("summary", has_text="New token").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("30")
    page.keyboard.press("Tab")  # generate
    page.keyboard.press("Tab")  # read
    page.keyboard.press("Tab")  # loras
    page.keyboard.press("Space")
    page.keyboard.press("Tab")  # admin
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Copy it now.")).to_be_visible()
    page.get_by_role("button", name="Copy", exact=True).press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    token = page.evaluate("() => navigator.clipboard.readText()")
    assert token == page.locator("#new-token").inner_text()
    row = page.get_by_role("row", name=re.compile(name))
    expect(row).to_contain_text("draw, read")
    expect(row).not_to_contain_text("LoRAs")

    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{studio.url}/api/v1/me/", headers=headers, timeout=30)
    assert answer.json()["username"] == "alice"
    page.goto(f"{studio.url}/account/usage/")
    expect(page.locator("#new-token")).to_have_count(0)
    expect(row).to_contain_text("just now")
    row.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text(f"{name} is revoked.")).to_be_visible()
    assert requests.get(f"{studio.url}/api/v1/me/", headers=headers, timeout=30).status_code == 401


def test_the_theme_and_single_keys_are_this_browsers(studio: Studio, page: Page) -> None:
    log_in(page, studio)
    page.emulate_media(color_scheme="light")
    page.goto(f"{studio.url}/account/display/")
    for theme, shown in (("Light", "light"), ("Dark", "dark"), ("As the system", "light")):
        page.get_by_text(theme, exact=True).click()
        expect(page.locator("html")).to_have_attribute("data-theme", shown)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")

    page.get_by_label("On", exact=True).uncheck()
    page.reload()
    expect(page.get_by_label("On", exact=True)).not_to_be_checked()
    page.locator("h1").click()
    page.keyboard.press("g")
    page.get_by_label("On", exact=True).check()
    expect(page).to_have_url(re.compile("/account/display/$"))
    page.locator("h1").click()
    page.keyboard.press("g")
    expect(page).to_have_url(re.compile("/gallery/$"))


def test_who_is_invited_comes_in_by_the_link_once_and_can_leave(
    studio: Studio, page: Page, browser: Browser
) -> None:
    log_in(page, studio)
    page.get_by_label(re.compile("account of alice")).click()
    page.get_by_role("link", name="People").click()
    page.locator("summary", has_text="Invite somebody").click()
    page.get_by_role("button", name="Make the link").click()
    link = page.locator("#new-link").inner_text()

    guest = browser.new_context(java_script_enabled=False)
    eve = guest.new_page()
    eve.goto(link)
    expect(eve.get_by_text("alice invited you")).to_be_visible()
    eve.get_by_label("User name").fill("eve")
    eve.get_by_label("Password", exact=True).fill("short")
    eve.get_by_role("button", name=re.compile("Create")).click()
    expect(eve.get_by_text("5 characters. Use 12 or more")).to_be_visible()
    eve.get_by_label("Password", exact=True).fill(PASSWORD)
    eve.get_by_role("button", name=re.compile("Create")).click()
    expect(eve.locator("form#generate")).to_be_visible()
    eve.goto(link)
    expect(eve.get_by_text("This invitation leads nowhere")).to_be_visible()

    page.goto(f"{studio.url}/account/people/?q=eve")
    page.get_by_role("link", name="Offboard eve").click()
    page.get_by_label("Type eve to confirm").fill("eve")
    page.get_by_role("button", name="Delete everything").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("former-[0-9]+ has left"))
    eve.goto(f"{studio.url}/gallery/")
    expect(eve).to_have_url(re.compile("/login/"))
    guest.close()
