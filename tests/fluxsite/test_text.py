"""What people write is text everywhere: every page is walked with names that would be markup or code."""

from html.parser import HTMLParser

import pytest
from django.http import HttpResponseBase
from django.test import Client

from accounts.models import User
from gpu.models import Worker
from tests import addresses
from tests.belongings import everything_of

# The short ones come whole wherever a page shortens a name.
ATTACKS = (
    "<script>alert(1)</script>",
    "\"onmouseover='alert(1)' x=",
    "'onfocus=alert(1) autofocus=",
    "</textarea></title><img src=x onerror=alert(1)>",
    "{{7*7}}{% now 'U' %}${7*7}",
    "javascript:alert(1)",
)


class Markup(HTMLParser):
    """What of a page would run, and all the text that it shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag == "script" and not named.get("src") and named.get("type") != "application/json":
            self.found.append(f"<script> without src: {attributes}")
        for name, value in attributes:
            if name.startswith("on") or name == "style" or _runs(name, value or ""):
                self.found.append(f"<{tag} {name}={value!r}>")
            self.text += f" {value}"

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def _runs(name: str, value: str) -> bool:
    return name in ("href", "src", "action", "formaction") and value.startswith(("javascript:", "x"))


def read(response: HttpResponseBase) -> str:
    if response.streaming:
        return b"".join(getattr(response, "streaming_content")).decode(errors="replace")  # noqa: B009
    return response.content.decode(errors="replace")  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_people_write_is_text_on_every_page(alice: User, attack: str) -> None:
    User.objects.filter(pk=alice.pk).update(
        is_staff=True, is_superuser=True, first_name=attack[:150], last_name=attack[:150]
    )
    objects = everything_of(alice, text=attack)
    Worker.objects.update(note=attack, state=Worker.State.WAITING)
    client = Client()
    client.force_login(User.objects.get(pk=alice.pk))
    walked = [addresses.path(route, objects) for route in addresses.routes()]
    walked += [
        f"/?from={objects['jobs']}",
        f"/?prompt={attack}",
        f"/history/?q={attack}",
        f"/loras/?q={attack}",
    ]
    shown = []
    for address in [*walked, *addresses.admin_paths()]:
        if "logout" in address:
            continue
        response = client.get(address)
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            read(response)
            continue
        page = Markup(read(response))
        assert page.found == [], f"{address} has markup of what somebody wrote: {page.found}"
        if attack in page.text:
            shown.append(address)
    for address in (
        "/", "/history/", "/gallery/", "/loras/", "/workers/", f"/jobs/{objects['jobs']}/",
        f"/images/{objects['images']}/", f"/loras/{objects['loras']}/", f"/history/?q={attack}",
        "/admin/generation/job/", "/admin/loras/lora/",
    ):  # fmt: skip
        assert address in shown, f"{address} does not show it at all"
