"""Photograph a running studio: its main pages for the README, dark; or all of them, to look at.

    python docs/screenshots.py http://127.0.0.1:8000 NAME PASSWORD             draw, then docs/*.webp
    python docs/screenshots.py http://127.0.0.1:8000 NAME PASSWORD --all DIR   each page, theme and width

The second finds pages by following links from the first one, and draws nothing. Needs the packages of
requirements-dev.txt and chromium.
"""

import argparse
import io
import re
import shutil
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

import PIL.Image
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect, sync_playwright

HERE = Path(__file__).parent
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
# Prompt, width, height, pictures.
ASKED = (
    ("Misty mountains under an orange sky with a sun", 192, 128, 2),
    ("A big green ring on a black background", 128, 128, 1),
    ("The moon over a calm sea", 192, 128, 2),
    ("One shaded purple sphere on a cream ground", 128, 128, 1),
    ("A big red heart on a white background", 128, 128, 1),
    ("A sun over an orange sea", 192, 128, 2),
    ("Hills under a teal sky with a moon", 128, 160, 1),
    ("Three glazed spheres on a mint ground, soft studio light", 160, 128, 2),
    ("A big orange triangle at the left of a purple background", 160, 128, 1),
    ("A sun over a purple sea", 128, 160, 1),
    ("Misty hills under a purple sky with a sun", 192, 128, 2),
    ("A big yellow star on a blue background", 128, 128, 2),
)
# The main pages: the name of the file, and how to get there. None: the newest picture of the gallery.
MAIN = {
    "generate": "/?prompt=Misty+hills+under+a+purple+sky+with+a+sun",
    "gallery": "/gallery/",
    "picture": None,
    "history": "/history/",
    "loras": "/loras/",
    "workers": "/workers/",
    "account": "/account/",
}
# Of addresses that differ in such a part only one is looked at.
_PART = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=^/loras/)[^/]+|\d+")


def log_in(page: Page, name: str, password: str) -> None:
    page.goto("/login/")
    page.get_by_label("User name or email").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("textbox", name="Prompt")).to_be_visible()


def draw(page: Page) -> None:
    """Submit everything and wait until the last job is over."""
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
    last = ""
    for seed, (prompt, width, height, count) in enumerate(ASKED, start=1):
        asked = {"prompt": prompt, "width": width, "height": height, "count": count, "seed": 10 * seed}
        response = page.request.post("/api/v1/jobs/", data=asked, headers={"X-CSRFToken": token})
        assert response.ok, response.text()
        last = response.json()["urls"]["self"]
    while page.request.get(last).json()["state"] in ("queued", "running"):
        page.wait_for_timeout(500)


def photograph(page: Page, file: Path, *, whole: bool = False) -> None:
    """Write what is seen, or the whole page, as WebP."""
    page.wait_for_load_state("load")
    page.evaluate("() => document.fonts.ready")
    page.wait_for_timeout(700)  # pictures fade in
    picture = PIL.Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    picture.save(file, quality=85, method=6)


def main_pages(page: Page) -> None:
    for name, address in MAIN.items():
        answer = page.goto(address or "/gallery/")
        if answer is None or not answer.ok:
            print(f"{name}: no such page")  # noqa: T201
            continue
        if address is None:
            page.locator("main a[href*='/images/']").first.click()
        photograph(page, HERE / f"{name}.webp")


def found_from(page: Page) -> list[str]:
    """The addresses of all pages that links lead to, one of each kind, the first page first."""
    ways, kinds, found = deque(["/"]), {"/"}, []
    while ways:
        address = ways.popleft()
        answer = page.request.get(address)
        if not answer.ok or not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        found.append(address)
        page.goto(address)
        for link in page.locator("a[href]").evaluate_all("links => links.map((link) => link.href)"):
            parts = urlsplit(link)
            kind = _PART.sub("*", parts.path)
            if (
                parts.netloc == urlsplit(page.url).netloc
                and kind not in kinds
                and not kind.startswith("/admin/")
            ):
                kinds.add(kind)
                ways.append(parts.path)
    return found


def all_pages(browser: Browser, url: str, session: StorageState, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    looker = window(browser, url, "dark", WIDE, session)
    pages = found_from(looker.new_page())
    for theme in ("dark", "light"):
        for size in (PHONE, WIDE):
            context = window(browser, url, theme, size, session)
            page = context.new_page()
            for address in [*pages, "/login/", "/nothing-is-here/"]:
                if address == "/login/":
                    context.clear_cookies()
                page.goto(address)
                name = _PART.sub("one", address).strip("/").replace("/", "-") or "generate"
                photograph(page, folder / f"{name}-{theme}-{size['width']}.webp", whole=True)
            context.close()


def window(
    browser: Browser, url: str, theme: str, size: dict[str, int], session: StorageState | None = None
) -> BrowserContext:
    context = browser.new_context(viewport=size, base_url=url, storage_state=session)  # type: ignore[arg-type]
    context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    return context


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("url", "name", "password"):
        parser.add_argument(name)
    parser.add_argument("--all", type=Path, metavar="DIR", help="every page, theme and width into DIR")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = window(browser, options.url, "dark", WIDE).new_page()
        log_in(page, options.name, options.password)
        if options.all:
            all_pages(browser, options.url, page.context.storage_state(), options.all)
        else:
            draw(page)
            main_pages(page)
        browser.close()


if __name__ == "__main__":
    main()
