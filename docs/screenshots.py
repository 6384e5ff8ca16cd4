"""Draw a few pictures in a running studio and photograph its pages for the README.

    python docs/screenshots.py http://127.0.0.1:8000 NAME PASSWORD

Needs the packages of requirements-dev.txt and chromium.
"""

import io
import shutil
import sys
from pathlib import Path

import PIL.Image
from playwright.sync_api import Page, expect, sync_playwright

HERE = Path(__file__).parent
WIDE = {"width": 1280, "height": 900}
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


def log_in(page: Page, url: str, name: str, password: str) -> None:
    page.goto(f"{url}/login/")
    page.get_by_label("User name or email").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("Prompt")).to_be_visible()


def draw(page: Page, url: str) -> None:
    """Submit everything and wait until the last job is over."""
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
    last = ""
    for seed, (prompt, width, height, count) in enumerate(ASKED, start=1):
        asked = {"prompt": prompt, "width": width, "height": height, "count": count, "seed": 10 * seed}
        response = page.request.post(f"{url}/api/v1/jobs/", data=asked, headers={"X-CSRFToken": token})
        assert response.ok, response.text()
        last = response.json()["urls"]["self"]
    while page.request.get(last).json()["state"] in ("queued", "running"):
        page.wait_for_timeout(500)


def photograph(page: Page, name: str) -> None:
    """Write docs/NAME.webp."""
    page.wait_for_load_state("networkidle")
    PIL.Image.open(io.BytesIO(page.screenshot())).save(HERE / f"{name}.webp", quality=85, method=6)


def main(url: str, name: str, password: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=WIDE)
        log_in(page, url, name, password)
        draw(page, url)
        page.goto(f"{url}/gallery/")
        photograph(page, "gallery")
        page.goto(f"{url}/?prompt=Misty+hills+under+a+purple+sky+with+a+sun")
        photograph(page, "generate")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
