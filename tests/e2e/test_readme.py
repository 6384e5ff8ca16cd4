"""The snippets of the README that can run here do; the settings of other programs lead to pictures."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.e2e.pixels import opened
from tests.e2e.studio import ROOT, Studio

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.+?)^```", re.DOTALL | re.MULTILINE)


def snippets(language: str, *words: str) -> list[str]:
    """The blocks of a language that hold all these words, in their order."""
    blocks = [match["code"] for match in BLOCK.finditer(README) if match["language"] == language]
    return [block for block in blocks if all(word in block for word in words)]


def run(studio: Studio, command: list[str], folder: Path) -> str:
    """What it prints, with a token in the environment as the README has it."""
    environment = studio.environment | {"FLUXSITE_TOKEN": studio.token("alice")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shell(studio: Studio, code: str, folder: Path) -> Any:
    """The JSON that a snippet with curl prints, of a studio at another address."""
    assert "http://localhost:8000" in code
    here = code.replace("http://localhost:8000", studio.url)
    return json.loads(run(studio, ["bash", "-ec", here], folder))


def test_the_token_that_it_makes_is_one(studio: Studio, tmp_path: Path) -> None:
    (code,) = snippets("sh", "create_token")
    token = run(studio, ["bash", "-ec", f"cd {ROOT}; {code.replace(' ana ', ' alice ')}"], tmp_path).strip()
    me = requests.get(f"{studio.url}/api/v1/me/", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert me.json()["username"] == "alice"


def test_curl_draws_by_either_api(studio: Studio, tmp_path: Path) -> None:
    (own,) = snippets("sh", "curl", "/api/v1/jobs/")
    job = shell(studio, own, tmp_path)
    assert (job["state"], len(job["images"])) == ("succeeded", 1)
    (openai,) = snippets("sh", "curl", "/v1/images/generations")
    (picture,) = shell(studio, openai, tmp_path)["data"]
    assert opened(requests.get(picture["url"], timeout=30).content).size == (128, 128)


def test_the_openai_package_draws(studio: Studio, tmp_path: Path) -> None:
    (code,) = snippets("python", "OpenAI(")
    here = code.replace("http://localhost:8000", studio.url)
    run(studio, [sys.executable, "-c", here], tmp_path)
    assert opened((tmp_path / "star.png").read_bytes()).size == (128, 128)


def settings(word: str) -> dict[str, str]:
    (block,) = snippets("ini", word)
    pairs = (line.split("=", 1) for line in block.splitlines())
    return dict(pairs)


def draw(studio: Studio, base: str, key: str, body: dict[str, Any]) -> bytes:
    """As a program set up like this sends it, with another address and another token."""
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
