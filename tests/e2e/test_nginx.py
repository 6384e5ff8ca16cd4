"""Behind a real nginx with the configuration that we ship: who may have a file gets it, and nobody else."""

import hashlib
import io
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.Image
import pytest
import requests

from tests.e2e.studio import PASSWORD, ROOT, Api, Studio, wait_for
from tests.postgresql import free_port

MISSING = "No nginx. Install it (Debian, Ubuntu: apt install nginx)."


def listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts nginx in front of a studio's address, which has its data in ``tmp_path``; gives its own."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    running: list[subprocess.Popen[bytes]] = []

    def start(upstream: str) -> str:
        plain, tls = free_port(), free_port()
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        made = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-nodes", "-days", "2"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *made, *files]
        subprocess.run(openssl, check=True, capture_output=True)
        ours = (ROOT / "deploy" / "nginx.conf").read_text()
        for said, here in {
            "127.0.0.1:8000": upstream,
            "listen 80": f"listen 127.0.0.1:{plain}",
            "listen 443": f"listen 127.0.0.1:{tls}",
            "studio.example": "localhost",
            "/etc/ssl/localhost.pem": str(certificate),
            "/etc/ssl/localhost.key": str(key),
            "/srv/fluxsite/media/": f"{tmp_path}/data/media/",
            "/var/log/nginx/": f"{tmp_path}/",
        }.items():
            assert said in ours
            ours = ours.replace(said, here)
        folders = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(
            f"user root; daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off;\n{folders}{ours}}}\n"
        )
        subprocess.run([str(program), "-t", "-c", configuration], check=True, capture_output=True)
        running.append(subprocess.Popen([str(program), "-c", configuration]))
        address = f"https://localhost:{tls}"
        wait_for(lambda: listens(tls))
        return address

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", FLUXSITE_URL="https://localhost", FLUXSITE_ACCEL="/media",
                    FLUXSITE_ADMIN_USER="alice", FLUXSITE_ADMIN_PASSWORD=PASSWORD)  # fmt: skip
    yield studio
    studio.kill()


@pytest.fixture
def address(studio: Studio, nginx: Callable[[str], str]) -> str:
    return nginx(studio.url.removeprefix("http://"))


def visitor(tmp_path: Path) -> requests.Session:
    session = requests.Session()
    session.verify = str(tmp_path / "certificate.pem")
    session.trust_env = False  # a variable that names other certificates would win
    session.headers["Referer"] = "https://localhost/"
    return session


def log_in(address: str, session: requests.Session) -> None:
    session.get(f"{address}/login/")
    said = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    assert session.post(f"{address}/login/", said, allow_redirects=False).status_code == 302
    session.headers["X-CSRFToken"] = session.cookies["csrftoken"]


def picture_of_two_megabytes() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.frombytes("RGB", (820, 820), random.Random(1).randbytes(820 * 820 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def test_nginx_sends_private_files_to_those_who_may_have_them(
    tmp_path: Path, studio: Studio, address: str
) -> None:
    api = Api(studio, studio.token("alice"))
    api.url = f"{address}/api/v1"
    token = api.session.headers["Authorization"]
    api.session = visitor(tmp_path)
    api.session.headers["Authorization"] = token
    job = api.finished(api.submit("a red circle", width=64, height=64)["id"])
    (image,) = job["images"]

    path = f"/api/v1/images/{image['id']}/file/"
    answer = api.session.get(address + path)
    assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]
    assert answer.headers["Content-Type"] == "image/png"
    assert "X-Accel-Redirect" not in answer.headers
    assert answer.headers["Cache-Control"].startswith("private")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Strict-Transport-Security"]

    assert visitor(tmp_path).get(address + path).status_code == 401
    (file,) = (tmp_path / "data" / "media").rglob(f"{image['id']}.png")
    name = file.relative_to(tmp_path / "data" / "media")
    assert api.session.get(f"{address}/media/{name}").status_code == 404

    assert api.session.post(f"{address}/api/v1/jobs/", data=b"x" * 1_200_000).status_code == 413
    lora = (ROOT / "demo/loras/night.safetensors").read_bytes()
    sent = api.session.post(f"{address}/api/v1/loras/", files={"file": ("night.safetensors", lora)})
    assert sent.status_code == 201, sent.text


def test_nginx_lets_pictures_through(tmp_path: Path, studio: Studio, address: str) -> None:
    session, picture = visitor(tmp_path), picture_of_two_megabytes()
    assert len(picture) > 2_000_000
    log_in(address, session)
    asked = session.post(f"{address}/settings-from-picture/", files={"picture": ("a.png", picture)})
    assert asked.status_code == 400
    assert "The picture holds no settings" in asked.text
    said = {"name": "Night", "recommended_weight": "1", "visibility": "everyone"}
    files = {"preview_file": ("a.png", picture)}
    set_ = session.post(f"{address}/loras/night/", said, files=files, allow_redirects=False)
    assert set_.status_code == 302, set_.text
    assert session.get(f"{address}/loras/night/preview/").headers["Content-Type"] == "image/webp"


def test_nginx_logs_neither_tokens_nor_what_was_searched_for(
    tmp_path: Path, studio: Studio, address: str
) -> None:
    session = visitor(tmp_path)
    for path in (
        "s/SECRET/",
        "s/SECRET/all.zip",
        "invite/SECRET/",
        "setup/SECRET/",
        "v1/images/files/SECRET",
    ):
        session.get(f"{address}/{path}")
    session.get(f"{address}/gallery/?search=SECRET")
    session.get(f"{address}/healthz", headers={"Referer": f"{address}/s/SECRET/"})
    session.post(f"{address}/s/SECRET/", data=b"x" * 1_200_000)
    studio.kill()
    assert session.get(f"{address}/s/SECRET/").status_code == 502
    said = (tmp_path / "fluxsite.log").read_text()
    assert len(said.splitlines()) >= 9
    assert " GET /healthz 200 " in said
    assert " GET /gallery/ 302 " in said
    assert " GET /s/... 404 " in said
    assert "SECRET" not in said + (tmp_path / "fluxsite-error.log").read_text()
