"""Every page in a real browser, in both themes, as wide as a phone and as a desk: axe, console, layout.

What a failure means and how to mend it stands in what it prints. Pages are not listed here: all addresses of
the resolver are asked for, and those that answer with a page are looked at.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, StorageState

from tests.addresses import path, routes
from tests.e2e.studio import PASSWORD, Studio

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Django's own widgets in the admin, which we do not write: (rule, part of the element).
DJANGOS = (("label", "vDateField"), ("label", "vTimeField"), ("aria-prohibited-attr", "help-tooltip"))
# How far things may move after the first paint: lists of pictures do not, and 0.1 is what browsers call good.
MOST_SHIFT = {"/gallery/": 0.01, "/history/": 0.01}
MOST_SHIFT_ELSEWHERE = 0.1
# The same pages with something to find, and with nothing.
ASKED = (
    "history/?show=failed",
    "history/?q=nothing+of+that+kind",
    "gallery/?q=nothing+of+that+kind",
    "?from={jobs}",
)

FILL = """
import json
from accounts.models import User
from tests import belongings
mara, zoe, many = (
    User.objects.create_superuser(name, password={password!r}, first_name=first, last_name="<b>Bold</b>")
    for name, first in (("mara", "<script>alert(1)</script>"), ("zoe", "Zoe"), ("many", "Many"))
)
belongings.pictures_of_all_kinds(mara)
objects = belongings.everything_of(mara, text="<script>alert(1)</script><img src=x onerror=alert(1)>")
belongings.many_pictures(many)
print(json.dumps(objects))
"""
# The studio is others', too: what is drawn for ever is taken back.
EMPTY = """
from generation.models import Job
from gpu.models import Worker
Worker.objects.filter(host__startswith="<").delete()
print("done")
"""
ADMIN = """
import json
from tests.addresses import admin_paths
found = admin_paths("generation", "loras", "accounts", "gpu")
print(json.dumps([path for path in found if "/history/" not in path and "/delete/" not in path]))
"""
# Before any script of the page: what shifts, and what should never run.
WATCH = """
localStorage.setItem("theme", %r);
window.shift = 0;
window.shifted = [];
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
        if (entry.hadRecentInput) continue;
        window.shift += entry.value;
        for (const { node } of entry.sources) window.shifted.push(node?.outerHTML?.slice(0, 120) ?? "text");
    }
}).observe({ type: "layout-shift", buffered: true });
"""
# Pictures are there or failed, and what a script does once the page is there is done.
SETTLED = """async () => {
    await document.fonts.ready;
    const inView = (image) => image.checkVisibility() && image.getBoundingClientRect().top < innerHeight;
    const waiting = [...document.images].filter((image) => !image.complete && inView(image));
    const come = (image) => new Promise((done) => {
        for (const end of ["load", "error"]) image.addEventListener(end, done);
    });
    await Promise.race([Promise.all(waiting.map(come)), new Promise((done) => setTimeout(done, 3000))]);
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
# What reaches beyond the right edge, and is not cut off by what it is in.
WIDE = """() => {
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    return [...document.body.querySelectorAll("*")]
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
        .slice(0, 5).map((element) => element.outerHTML.slice(0, 160));
}"""
RUN_AXE = """async (tags) => {
    const found = await axe.run(document, { runOnly: tags, resultTypes: ["violations"], preload: false });
    return found.violations.flatMap((rule) => rule.nodes.map((node) => ({
        rule: rule.id, help: rule.help, url: rule.helpUrl, element: node.html.slice(0, 200),
        where: node.target.join(" "), fix: node.failureSummary.replace(/\\s+/g, " ").slice(0, 400),
    })));
}"""


@dataclass(frozen=True)
class Filled:
    """A studio in which mara has something of everything, zoe nothing, and many 500 pictures.

    ``pages``: the addresses of all pages, by who looks at them; of ``nobody`` those that need no account.
    """

    studio: Studio
    sessions: dict[str, StorageState | None]
    pages: dict[str, list[str]]
    admin: list[str]


@pytest.fixture(scope="module")
def filled(studio: Studio, browser: Browser) -> Iterator[Filled]:
    objects = json.loads(studio.shell(FILL.format(password=PASSWORD)))
    sessions: dict[str, StorageState | None] = {"nobody": None}
    sessions |= {name: session_of(browser, studio, name) for name in ("mara", "zoe", "many")}
    all_of = sorted({path(route, objects) for route in routes()})
    plain = [route for route in all_of if not any(key in route for key in objects.values())]
    asked = {
        "mara": [*all_of, *(f"/{address.format(**objects)}" for address in ASKED)],
        "zoe": plain,
        "nobody": all_of,
    }
    pages = {who: pages_among(browser, studio, sessions[who], asked[who]) for who in asked}
    yield Filled(studio, sessions, pages, json.loads(studio.shell(ADMIN)))
    studio.shell(EMPTY)


def session_of(browser: Browser, studio: Studio, name: str) -> StorageState:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{studio.url}/login/")
    page.get_by_label("User name or email").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{studio.url}/")
    session = context.storage_state()
    context.close()
    return session


# Viewers of the API that others wrote: their colours and targets are theirs.
NOT_OURS = ("/api/v1/docs/", "/api/v1/redoc/")


def pages_among(
    browser: Browser, studio: Studio, session: StorageState | None, addresses: list[str]
) -> list[str]:
    """Those that answer with a whole page, for people to look at."""
    context = browser.new_context(storage_state=session)
    found = []
    for address in (address for address in addresses if address not in NOT_OURS):
        answer = context.request.get(studio.url + address, max_redirects=0)
        is_html = answer.headers.get("content-type", "").startswith("text/html")
        if answer.status == 200 and is_html and answer.text().lower().startswith("<!doctype html"):
            found.append(address)
    context.close()
    return found


class Look:
    """One browser window through which pages are looked at; what is wrong with them is collected."""

    def __init__(self, context: BrowserContext, name: str) -> None:
        self.name = name
        self.wrong: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._say(f"error in a script: {error}"))
        self.page.on("dialog", self._dialog)

    def _say(self, what: str) -> None:
        self.wrong.append(f"{self.page.url} · {self.name} · {what}")

    def _console(self, message: ConsoleMessage) -> None:
        is_the_page = message.location.get("url") == self.page.url and "status of 404" in message.text
        if message.type == "error" and not is_the_page:
            self._say(f"console: {message.text} ({message.location.get('url', '')})")

    def _dialog(self, dialog: Dialog) -> None:
        self._say("a dialog opened: text of a person was run as code")
        dialog.dismiss()

    def at(self, address: str, most_shift: float = MOST_SHIFT_ELSEWHERE) -> None:
        """Look at a page."""
        self.page.goto(address, wait_until="load")
        self.page.evaluate(SETTLED)
        if wide := self.page.evaluate(WIDE):
            self._say(f"scrolls sideways, because of {wide}. Let it wrap, shrink or scroll inside itself")
        shift = self.page.evaluate("() => window.shift")
        if shift > MOST_SHIFT.get(address.partition("?")[0], most_shift):
            self._say(
                f"moves after the first paint by {shift:.3f} of the window: "
                f"{self.page.evaluate('() => [...new Set(window.shifted)].slice(0, 5)')}. "
                "Give it its size before its content comes"
            )
        self._axe()

    def _axe(self) -> None:
        self.page.evaluate(AXE)
        for one in self.page.evaluate(RUN_AXE, WCAG):
            if not any(one["rule"] == rule and part in one["element"] for rule, part in DJANGOS):
                self._say(
                    f"axe {one['rule']}: {one['help']}\n    at {one['where']}: {one['element']}\n"
                    f"    {one['fix']}\n    {one['url']}"
                )


@contextmanager
def looking(browser: Browser, filled: Filled, who: str, theme: str, width: int) -> Iterator[Look]:
    """A window in which ``who`` is logged in; what is wrong with the pages seen fails the test at its end."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        storage_state=filled.sessions[who],
        base_url=filled.studio.url,
        reduced_motion="reduce",
    )
    context.add_init_script(WATCH % theme)
    look = Look(context, f"{who}, {theme}, {width} px")
    yield look
    context.close()
    assert look.wrong == [], "\n\n".join(["", *look.wrong])


# Colours depend on the theme, and where things are on the width: two windows have all of both.
WINDOWS = [("dark", 1280), ("light", 390)]
THE_OTHERS = [
    pytest.param(theme, width, marks=pytest.mark.slow) for theme, width in (("dark", 390), ("light", 1280))
]
in_each_window = pytest.mark.parametrize(("theme", "width"), [*WINDOWS, *THE_OTHERS])


@in_each_window
def test_every_page(browser: Browser, filled: Filled, theme: str, width: int) -> None:
    with looking(browser, filled, "mara", theme, width) as look:
        for address in filled.pages["mara"]:
            look.at(address)


@pytest.mark.parametrize(("theme", "width"), [("dark", 390), ("light", 1280)])
def test_every_page_of_somebody_who_has_nothing_yet(
    browser: Browser, filled: Filled, theme: str, width: int
) -> None:
    with looking(browser, filled, "zoe", theme, width) as look:
        for address in filled.pages["zoe"]:
            look.at(address)


@in_each_window
def test_every_page_that_needs_no_account(browser: Browser, filled: Filled, theme: str, width: int) -> None:
    with looking(browser, filled, "nobody", theme, width) as look:
        for address in [*filled.pages["nobody"], "/nothing-is-here/"]:
            look.at(address)


def test_the_page_of_the_first_visit(browser: Browser, start: Callable[..., Studio]) -> None:
    studio = start()
    address = studio.said(r"(http://127\.0\.0\.1:\d+/setup/\S+)")
    for theme, width in WINDOWS:
        with looking(browser, Filled(studio, {"nobody": None}, {}, []), "nobody", theme, width) as look:
            look.at(address)


@in_each_window
def test_a_gallery_of_500_pictures(browser: Browser, filled: Filled, theme: str, width: int) -> None:
    with looking(browser, filled, "many", theme, width) as look:
        look.at("/gallery/")
        assert look.page.locator("main img").count() >= 50


@pytest.mark.parametrize(("theme", "width"), [("dark", 1280)])
def test_every_page_of_the_admin(browser: Browser, filled: Filled, theme: str, width: int) -> None:
    with looking(browser, filled, "mara", theme, width) as look:
        for address in filled.admin:
            look.at(address, most_shift=1)  # how Django lays its pages out is not ours


def test_no_page_is_left_out(filled: Filled) -> None:
    """The pages are found by themselves; this says so if that fails."""
    assert {"/", "/gallery/", "/history/", "/loras/", "/workers/"} <= set(filled.pages["mara"])
    assert {"/", "/gallery/", "/history/", "/loras/", "/workers/"} <= set(filled.pages["zoe"])
    assert "/login/" in filled.pages["nobody"]
    assert any(page.startswith("/images/") for page in filled.pages["mara"])
    assert {"/admin/", "/admin/generation/job/", "/admin/loras/lora/"} <= set(filled.admin)
