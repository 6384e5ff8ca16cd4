"""Every snippet of the documents runs here; the settings for other programs lead to pictures."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from tests.e2e.pixels import opened
from tests.e2e.studio import ROOT, Studio

DOCUMENTS = ("README.md", "docs/api.md", "docs/openai.md")
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.+?)^```", re.DOTALL | re.MULTILINE)


class Snippet(NamedTuple):
    document: str
    language: str
    code: str


SNIPPETS = [
    Snippet(document, match["language"], match["code"])
    for document in DOCUMENTS
    for match in BLOCK.finditer((ROOT / document).read_text())
]


def snippets(language: str, *words: str) -> list[Any]:
    """The blocks of a language that contain all these words; one that occurs twice is one."""
    found = {s.code: s for s in SNIPPETS if s.language == language and all(word in s.code for word in words)}
    return [pytest.param(code, id=f"{s.document}-{number}") for number, (code, s) in enumerate(found.items())]


MAKE_TOKENS, ASK = snippets("sh", "create_token"), snippets("sh", "curl")
PYTHON = snippets("python")


def run(studio: Studio, command: list[str], folder: Path) -> str:
    """What a snippet prints, with a token in the environment as the documents say."""
    environment = studio.environment | {"FLUXSITE_TOKEN": studio.token("alice")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def here(studio: Studio, code: str) -> str:
    assert "http://localhost:8000" in code
    return code.replace("http://localhost:8000", studio.url)


def test_no_snippet_is_left_out() -> None:
    run_by_a_test = len(MAKE_TOKENS) + len(ASK) + len(PYTHON) + len(snippets("ini"))
    assert run_by_a_test == len({s.code for s in SNIPPETS})
    assert MAKE_TOKENS
    assert len(ASK) >= 4
    assert len(PYTHON) >= 2


@pytest.mark.parametrize("code", MAKE_TOKENS)
def test_a_token_that_a_document_makes_is_one(studio: Studio, tmp_path: Path, code: str) -> None:
    token = run(studio, ["bash", "-ec", f"cd {ROOT}; {code.replace(' ana ', ' alice ')}"], tmp_path).strip()
    me = requests.get(f"{studio.url}/api/v1/me/", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert me.json()["username"] == "alice"


@pytest.mark.parametrize("code", ASK)
def test_every_curl_command_is_answered_as_it_should_be(studio: Studio, code: str) -> None:
    answer = json.loads(run(studio, ["bash", "-ec", here(studio, code)], ROOT))
    assert not {"error", "errors"} & {key for key, value in answer.items() if value}, answer
    if "/api/v1/jobs/" in code:
        assert (answer["state"], len(answer["images"])) == ("succeeded", 1)
    elif "/v1/images/generations" in code:
        (picture,) = answer["data"]
        assert opened(requests.get(picture["url"], timeout=30).content).size == (128, 128)
    elif "/api/v1/images/" in code:
        assert isinstance(answer["results"], list)
    else:
        assert answer["family"]


@pytest.mark.parametrize("code", PYTHON)
def test_every_python_program_draws_a_picture(studio: Studio, tmp_path: Path, code: str) -> None:
    run(studio, [sys.executable, "-c", here(studio, code)], tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert opened(picture.read_bytes()).size == (128, 128)


def settings(word: str) -> dict[str, str]:
    (block,) = [s.code for s in SNIPPETS if s.language == "ini" and word in s.code]
    pairs = (line.split("=", 1) for line in block.splitlines())
    return dict(pairs)


def draw(studio: Studio, base: str, key: str, body: dict[str, Any]) -> bytes:
    """The picture that a program with these settings gets, with another address and another token."""
    assert (base, key) == ("http://localhost:8000/v1", "fx_your_token")
    headers = {"Authorization": f"Bearer {studio.token('alice')}"}
    address = f"{studio.url}/v1/images/generations"
    answer = requests.post(address, json={"prompt": "a star", "n": 1, **body}, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def test_open_webui_and_librechat_set_up_like_this_draw(studio: Studio) -> None:
    webui, chat = settings("IMAGES_OPENAI_API_BASE_URL"), settings("IMAGE_GEN_OAI_BASEURL")
    body = {
        "model": webui["IMAGE_GENERATION_MODEL"],
        "size": webui["IMAGE_SIZE"],
        "response_format": "b64_json",
    }
    drawn = draw(studio, webui["IMAGES_OPENAI_API_BASE_URL"], webui["IMAGES_OPENAI_API_KEY"], body)
    assert opened(drawn).size == (128, 128)
    body = {"model": chat["IMAGE_GEN_OAI_MODEL"], "size": "auto", "quality": "auto", "background": "auto"}
    drawn = draw(studio, chat["IMAGE_GEN_OAI_BASEURL"], chat["IMAGE_GEN_OAI_API_KEY"], body)
    assert opened(drawn).size == (128, 128)
