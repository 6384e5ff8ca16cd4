"""One studio for most end-to-end tests, and a browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.e2e.studio import PASSWORD, Api, Studio

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio whose administrator is alice."""
    data = tmp_path_factory.mktemp("e2e") / "data"
    running = Studio(data, FLUXSITE_ADMIN_USER="alice", FLUXSITE_ADMIN_PASSWORD=PASSWORD)
    yield running
    running.kill()


@pytest.fixture(scope="session")
def api(studio: Studio) -> Api:
    return Api(studio, studio.token("alice"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Studio]]:
    """Starts studios of a test's own."""
    running: list[Studio] = []

    def start(*options: str, **environment: str) -> Studio:
        running.append(Studio(tmp_path / f"data-{len(running)}", *options, **environment))
        return running[-1]

    yield start
    for each in running:
        each.kill()


# One for each file: as long as it is there its event loop runs, and Django opens no database then.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = [path for path in map(shutil.which, CHROMIUM) if path]
    assert found, "There is no chromium. Install it (Debian, Ubuntu: apt install chromium)."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


def _is_fault(message: ConsoleMessage) -> bool:
    """An error in the console; the browser also reports answers there, and a 400 to bad input is right."""
    return message.type == "error" and "the server responded with a status of 400" not in message.text


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that has never been here; an error in its console fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if _is_fault(message) else None)
    yield page
    context.close()
    assert errors == []
