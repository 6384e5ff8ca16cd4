"""The ``openai`` package, on a web server in a thread of the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI

from accounts.models import ApiToken, User

PROMPT = "a big yellow star on a blue background"


@pytest.fixture
def sdk(live_server: Any, alice: User) -> Iterator[Callable[..., OpenAI]]:
    """Makes clients, of alice's or with the token given. No worker draws: jobs stay as a test leaves them."""
    clients: list[OpenAI] = []

    def client(token: str | None = None, **options: Any) -> OpenAI:
        key = token or ApiToken.objects.create(alice, name="sdk")[1]
        clients.append(OpenAI(base_url=f"{live_server.url}/v1", api_key=key, **options))
        return clients[-1]

    yield client
    for each in clients:
        each.close()
