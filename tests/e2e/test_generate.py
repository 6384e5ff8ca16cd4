"""The Generate page in a real browser: settings from a picture, the last prompts, keys."""

import base64
import re

from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.studio import Api, Studio
from tests.e2e.test_browser import READY, SECONDS, log_in, picture_bytes
from tests.generation.test_png_metadata import with_parameters

# Lets go of a file, or of a link with it, over ``target``; or pastes it there.
SEND = """([kind, content, link]) => {
    const data = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], "picture.png", {type: "image/png"}));
    if (link) data.setData("text/uri-list", link);
    const options = {bubbles: true, cancelable: true};
    const events = kind === "paste"
        ? [new ClipboardEvent("paste", {clipboardData: data, ...options})]
        : ["dragenter", "dragover", "drop"].map((on) => new DragEvent(on, {dataTransfer: data, ...options}));
    for (const event of events) document.body.dispatchEvent(event);
}"""
# Notes that the browser is asked to let a file be chosen, and lets it not.
CHOOSING = """() => document.getElementById("picture").addEventListener("click", (event) => {
    event.preventDefault();
    window.choosing = true;
})"""
ODD = 'a midnight star, "big" & <lora:night:1>\nüber 🌊 العالم'
NOTICE = "#picture-notice"


def send(page: Page, kind: str, content: bytes, link: str = "") -> None:
    page.evaluate(SEND, [kind, base64.b64encode(content).decode(), link])


def ready(page: Page, studio: Studio) -> None:
    log_in(page, studio)
    expect(page.locator(READY)).to_be_visible()


def prompt(page: Page) -> str:
    return page.get_by_label("Prompt", exact=True).input_value()


def test_a_picture_of_ours_that_is_dropped_draws_the_same_file_again(
    studio: Studio, api: Api, page: Page
) -> None:
    loras = [{"slug": "night", "weight": 0.8}, {"slug": "outline", "weight": -0.3}]
    asked = {"width": 80, "height": 112, "seed": 4712, "steps": 3, "engine": "bf16", "count": 2}
    _, second = api.draw(ODD, loras=loras, **asked)
    ready(page, studio)
    page.get_by_label("Prompt", exact=True).fill("what was typed before")
    send(page, "drop", second)
    expect(page.locator(NOTICE)).to_contain_text("All settings taken from the picture")
    assert prompt(page) == ODD
    page.keyboard.press("Control+Enter")
    again = page.locator("[data-job]").first
    expect(again).to_have_attribute("data-seed", "4713")
    expect(again.locator("img.drawn")).to_have_count(1, timeout=SECONDS)
    link = str(again.locator("a:has(img)").get_attribute("href"))
    assert picture_bytes(page, f"{studio.url}{link}file/") == second

    # Dragged from the page itself, it is the picture that counts and not the preview that the browser adds.
    page.reload()
    expect(page.locator(READY)).to_be_visible()
    send(page, "drop", b"RIFF", f"{studio.url}{link}")
    expect(page.locator(NOTICE)).to_contain_text("All settings taken from the picture")
    assert prompt(page) == ODD

    page.route("**/file/?download=whole", lambda route: route.fulfill(status=400))
    send(page, "drop", b"RIFF", f"{studio.url}{link}")
    expect(page.get_by_text("This picture could not be fetched.")).to_be_visible()

    page.get_by_role("heading", name="Same request by API").click()  # nothing is typed any more
    page.keyboard.press("r")
    expect(page).to_have_url(re.compile(r"\?from="))
    assert prompt(page) == ODD
    assert page.locator("#seed").input_value() == ""


def test_a_picture_of_another_program_fills_what_it_can(studio: Studio, page: Page) -> None:
    ready(page, studio)
    page.locator("#add-lora").click()
    page.locator("[data-pick=outline]").click()
    send(page, "paste", with_parameters(
        "a <b>red</b> circle <lora:night:0.65>\nNegative prompt: ugly\n"
        "Steps: 5, Sampler: DPM++ 2M, CFG scale: 7, Seed: 0, Size: 832x1216, Model: <script>alert(1)</script>"
    ))  # fmt: skip
    notice = page.locator(NOTICE)
    for sentence in (
        "Negative prompt: fluxsite demo takes none", "Sampler DPM++ 2M", "CFG scale 7",
        "96 × 144 is the nearest", "Model <script>alert(1)</script>",
    ):  # fmt: skip
        expect(notice).to_contain_text(sentence)
    assert prompt(page) == "a <b>red</b> circle"
    assert page.locator("#seed").input_value() == "0"
    expect(page.locator("#size-words")).to_have_text("96 × 144")
    expect(page.locator("#prompt-hint")).to_contain_text("5 steps")
    expect(page.locator(".lora-box:visible")).to_have_count(1)
    expect(page.locator("input[name=weight-night]")).to_have_value("0.65")
    expect(page.locator("[data-pick=night]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-pick=outline]")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#api-code")).to_contain_text('"night"')

    dismiss = notice.get_by_role("button", name="Dismiss")
    dismiss.focus()
    page.keyboard.press("Enter")
    expect(notice).to_be_empty()
    button = page.get_by_role("button", name="Settings from a picture")
    expect(button).to_be_focused()
    page.evaluate(CHOOSING)
    page.keyboard.press("Enter")
    assert page.evaluate("window.choosing")
    page.locator("#picture").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"GIF89a"})
    expect(notice).to_contain_text("This is not a PNG file")
    assert prompt(page) == "a <b>red</b> circle"


def test_what_a_server_before_the_studio_refuses_is_told_from_being_logged_out(
    studio: Studio, browser: Browser
) -> None:
    page = browser.new_page()
    ready(page, studio)
    answers = iter([(413, "Too large"), (200, "Log in")])

    def answer(route: Route) -> None:
        status, title = next(answers)
        route.fulfill(status=status, content_type="text/html", body=f"<title>{title}</title>")

    page.route("**/settings-from-picture/", answer)
    for sentence in ("The server takes no file of this size", "You are logged out"):
        send(page, "drop", b"picture")
        expect(page.locator("#form-error")).to_contain_text(sentence)
    page.close()


def test_settings_are_taken_without_javascript(studio: Studio, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, studio)
    picture = with_parameters("a green ring\nNegative prompt: ugly\nSteps: 4, Seed: 11")
    chosen = page.get_by_label("Settings from a picture (PNG)")
    chosen.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": picture})
    page.get_by_role("button", name="Take them").click()
    expect(page.locator(NOTICE)).to_contain_text("Negative prompt")
    assert prompt(page) == "a green ring"
    page.get_by_role("button", name=re.compile("^Generate")).click()
    expect(page).to_have_url(re.compile("/jobs/"))
    page.goto(f"{studio.url}/prompts/")
    page.get_by_role("link", name="a green ring").first.click()
    assert prompt(page) == "a green ring"
    context.close()


def test_what_is_sent_again_because_no_answer_came_is_drawn_once(
    studio: Studio, api: Api, browser: Browser
) -> None:
    context = browser.new_context()  # the browser tells of lost answers in its console
    page = context.new_page()
    ready(page, studio)
    button, error = page.get_by_role("button", name=re.compile("^Generate 1")), page.locator("#form-error")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    def asked_for(words: str) -> list[str]:
        jobs = api.session.get(f"{api.url}/jobs/").json()["results"]
        return [job["id"] for job in jobs if job["prompt"] == words]

    page.route("**/api/v1/jobs/", lose, times=2)
    for _ in range(2):
        page.get_by_label("Prompt", exact=True).fill("a lost ring")
        button.click()
        expect(error).to_contain_text("No answer from the server")
    (first,) = asked_for("a lost ring")
    button.click()
    expect(page.locator(f"#job-{first}")).to_be_visible()
    assert asked_for("a lost ring") == [first]

    button.click()
    expect(page.locator("[data-job]").first).not_to_have_attribute("data-job", first)
    assert len(asked_for("a lost ring")) == 2

    page.route("**/api/v1/jobs/", lose, times=1)
    button.click()
    expect(error).to_contain_text("No answer from the server")
    page.get_by_label("Prompt", exact=True).fill("another ring")
    button.click()
    expect(error).to_be_hidden()
    expect(page.locator("[data-job]").first).to_contain_text("another ring")
    assert len(asked_for("a lost ring")) == 3
    context.close()


def test_the_last_prompts_and_jobs_are_reached_by_keyboard(studio: Studio, api: Api, page: Page) -> None:
    ready(page, studio)
    field = page.get_by_label("Prompt", exact=True)
    page.get_by_text("Size", exact=True).click()
    for name, value in (("Width", "256"), ("Height", "256"), ("Steps", "50")):
        page.get_by_role("spinbutton", name=name).fill(value)
    page.get_by_text("4", exact=True).click()
    for words in ("a purple heart", "a teal\nsquare"):
        field.fill(words)
        page.keyboard.press("Control+Enter")
        expect(page.locator("[data-job]").first).to_contain_text(words.split()[1])

    page.get_by_role("heading", name="Same request by API").click()  # nothing is typed any more
    first, second = page.locator("[data-job]").first, page.locator("[data-job]").nth(1)
    page.keyboard.press("Shift+X")
    expect(first).to_have_attribute("data-state", "cancelled")
    page.keyboard.press("Shift+X")
    expect(second).to_have_attribute("data-state", "cancelled", timeout=SECONDS)
    page.keyboard.press("s")
    expect(page.locator("#seed")).to_be_focused()

    field.fill("half a thought")
    for key, shown in (
        ("ArrowUp", "a teal\nsquare"), ("ArrowUp", "a purple heart"), ("ArrowDown", "a teal\nsquare"),
        ("ArrowDown", "half a thought"), ("ArrowDown", "half a thought"),
    ):  # fmt: skip
        page.keyboard.press(f"Alt+{key}")
        expect(field).to_have_value(shown)

    page.get_by_role("button", name="Used before").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Used before")
    expect(dialog.locator("li").first).to_contain_text("a teal")
    page.keyboard.type("purple HEART")
    expect(dialog.locator("li:visible")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_role("link", name="a purple heart")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(field).to_be_focused()
    expect(field).to_have_value("a purple heart")
