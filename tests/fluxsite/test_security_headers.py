"""What every answer tells browsers, whoever asks and whatever becomes of it."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from tests.generation.drawn import finished

HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@pytest.mark.parametrize("address", ["/", "/login/", "/nothing/", "/api/v1/jobs/", "/healthz", "/admin/"])
def test_pages_are_not_framed_sniffed_or_told_to_others(client: Client, db: None, address: str) -> None:
    answer = client.get(address)
    assert {name: answer[name] for name in HEADERS} == HEADERS
    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_files_too(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.get(reverse("generation:image-file", args=[finished(alice).images.get().pk]))
    answer.close()
    assert answer.status_code == 200
    assert {name: answer[name] for name in HEADERS} == HEADERS


def test_the_cookie_of_a_session_is_for_our_pages_alone(client: Client, alice: User) -> None:
    client.post("/login/", {"username": "alice", "password": "correct horse battery"})
    (cookie,) = [one for name, one in client.cookies.items() if name == "sessionid"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
