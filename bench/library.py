"""What the library costs: pages with 10 and with 5,000 LoRAs, and the memory of five uploads of 1 GB at once.

``python -m bench.library`` prints both. It needs 13 GB of free disk. The web process is the one that
``manage.py up`` starts, on SQLite, asked about FLUX.1: it keeps files of that family, and nothing draws.
"""

import argparse
import http.client
import json
import statistics
import struct
import subprocess
import threading
import time
from pathlib import Path

import psutil

from bench.processes import ROOT, Site, new_site, wait_until
from fluxsite import server
from tests.postgresql import free_port

MODEL = "black-forest-labs/FLUX.1-schnell"
FEW, MANY, TURNS = 10, 5000, 30
PAGES = {
    "library": "/loras/",
    "library, search": "/loras/?q=lora+word7",
    "library, last page by name": "/loras/?sort=name&page=1000",
    "Generate": "/",
    "Generate, search for a LoRA": "/loras/pick/?q=word7",
}
UPLOADS = 5
LAYERS = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
)  # fmt: skip
MEGABYTE = 10**6


class Web:
    """A web process on a site, and a token of its administrator."""

    def __init__(self, site: Site) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            server.command(f"127.0.0.1:{self.port}"), env=site.environment, cwd=ROOT
        )  # fmt: skip
        wait_until(self._answers)
        site.enter()
        from django.test import Client

        from accounts.models import ApiToken, User

        self.user = User.objects.create_superuser("ana", password=None)
        self.token = ApiToken.objects.create(self.user, name="bench")[1]
        client = Client()
        client.force_login(self.user)
        self.cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def seconds(self, path: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        start = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        answer.read()
        taken = time.perf_counter() - start
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}")
        return taken

    def memory(self) -> int:
        """Bytes that the web processes have for themselves."""
        parent = psutil.Process(self.process.pid)
        return sum(process.memory_full_info().uss for process in (parent, *parent.children()))

    def upload(self, path: Path, name: str) -> int:
        """The status of the answer."""
        begin = (
            f'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
            f'--b\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        ).encode()
        end = b"\r\n--b--\r\n"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.putrequest("POST", "/api/v1/loras/")
        connection.putheader("Authorization", f"Bearer {self.token}")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", str(len(begin) + path.stat().st_size + len(end)))
        connection.endheaders()
        connection.send(begin)
        with path.open("rb") as file:
            while chunk := file.read(MEGABYTE):
                connection.send(chunk)
        connection.send(end)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status


def add_loras(count: int) -> None:
    from accounts.models import User
    from loras.models import Admission, Lora

    owner = User.objects.get(username="ana")
    start = Lora.objects.count()
    loras = [
        Lora(
            owner=owner, slug=f"lora-{n}", name=f"Lora {n}", family="flux1", state="ready", uses=n % 97,
            sha256=f"{n:064x}", size=n, trigger_words=[f"word{n}"], tags=["style"],
            search_text=f"lora {n}\nword{n}\nstyle\n{'a description of it ' * 20}",
        )
        for n in range(start, count)
    ]  # fmt: skip
    Lora.objects.bulk_create(loras, batch_size=500)
    admissions = [
        Admission(lora=lora, engine=engine, state="works") for lora in loras for engine in ("fp4", "bf16")
    ]
    Admission.objects.bulk_create(admissions, batch_size=500)


def lora_file(path: Path, seed: int) -> None:
    """A LoRA of all attention layers of FLUX.1's double blocks, of rank 530 in BF16: 1 GB, without NaN."""
    rank, width, place = 530, 3072, 0
    header = {}
    for block in range(19):
        for layer in (
            "to_q",
            "to_k",
            "to_v",
            "to_out.0",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_add_out",
        ):
            for part, shape in (("A", (rank, width)), ("B", (width, rank))):
                key = f"transformer.transformer_blocks.{block}.attn.{layer}.lora_{part}.weight"
                size = 2 * rank * width
                header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
                place += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        block_of_numbers = bytes([seed, 0x3C]) * (MEGABYTE // 2)
        while place:
            place -= file.write(block_of_numbers[:place])


def pages(web: Web) -> list[str]:
    medians = {}
    for count in (FEW, MANY):
        add_loras(count)
        for name, path in PAGES.items():
            web.seconds(path)
            medians[name, count] = statistics.median(web.seconds(path) for _ in range(TURNS)) * 1000
    return [
        f"{name}: {medians[name, FEW]:.0f} ms with {FEW} LoRAs, {medians[name, MANY]:.0f} ms with {MANY:,}"
        for name in PAGES
    ]


def uploads(web: Web, folder: Path) -> list[str]:
    paths = [folder / f"{n}.safetensors" for n in range(UPLOADS)]
    for seed, path in enumerate(paths, 1):
        lora_file(path, seed)
    web.upload(paths[0], "First")  # what a first upload loads is not the fifth's
    size = paths[0].stat().st_size
    before = most = web.memory()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda path=path: answers.append(web.upload(path, path.stem)))
        for path in paths
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, web.memory())
        time.sleep(0.05)
    taken = time.perf_counter() - start
    return [
        f"{UPLOADS} uploads of {size / 1e6:,.0f} MB at once: {taken:.0f} s, answers {sorted(answers)}; web "
        f"process {before / 1e6:.0f} MB before, {most / 1e6:.0f} MB at most, "
        f"{(most - before) / 1e6:.0f} MB more"
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with new_site("sqlite", FLUXSITE_MODEL=MODEL, FLUXSITE_ALLOWED_HOSTS="127.0.0.1") as site:
        site.manage("collectstatic", "--noinput", "--verbosity", "0")
        web = Web(site)
        try:
            for line in (*pages(web), *uploads(web, site.folder)):
                print(line, flush=True)
        finally:
            web.process.terminate()
            web.process.wait(30)


if __name__ == "__main__":
    main()
