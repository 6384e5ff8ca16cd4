"""Behind a real nginx with the configuration that we ship: who may have a file gets it, and nobody else."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.studio import ROOT, Api, Studio, wait_for
from tests.postgresql import free_port

MISSING = "No nginx. Install it (Debian, Ubuntu: apt install nginx)."


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
        wait_for(lambda: (tmp_path / "nginx.pid").exists())
        return address

    yield start
    for process in running:
        process.terminate()
        process.wait()


def test_nginx_sends_private_files_to_those_who_may_have_them(
    tmp_path: Path, nginx: Callable[[str], str]
) -> None:
    studio = Studio(tmp_path / "data", FLUXSITE_URL="https://localhost", FLUXSITE_ACCEL="/media",
                    FLUXSITE_ADMIN_USER="alice", FLUXSITE_ADMIN_PASSWORD="correct horse battery")  # fmt: skip
    try:
        address = nginx(studio.url.removeprefix("http://"))
        api = Api(studio, studio.token("alice"))
        api.url = f"{address}/api/v1"
        api.session.verify = str(tmp_path / "certificate.pem")
        api.session.trust_env = False  # a variable that names other certificates would win
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

        stranger = requests.Session()
        stranger.verify, stranger.trust_env = api.session.verify, False
        assert stranger.get(address + path).status_code == 401
        (file,) = (tmp_path / "data" / "media").rglob("*.png")
        name = file.relative_to(tmp_path / "data" / "media")
        assert api.session.get(f"{address}/media/{name}").status_code == 404

        assert api.session.post(f"{address}/api/v1/jobs/", data=b"x" * 1_200_000).status_code == 413
        lora = (ROOT / "demo/loras/night.safetensors").read_bytes()
        sent = api.session.post(f"{address}/api/v1/loras/", files={"file": ("night.safetensors", lora)})
        assert sent.status_code == 201, sent.text
    finally:
        studio.kill()
