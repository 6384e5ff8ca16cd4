"""What the API costs, beside a bare DRF view: ``python -m bench.api``. On 2 cores, one run for both sides.

The web process is the one that ``manage.py up`` starts, on a fresh data directory and database; requests come
from threads of this process, at their times whether or not those before them are answered, and what one takes
is counted from its time. While they mix, a worker draws with the demo model.
"""

import argparse
import http.client
import itertools
import json
import platform
import queue
import random
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.processes import DATABASES, ROOT, Site, new_site, wait_until
from fluxsite import server
from tests.postgresql import free_port

rng = random.Random(1)  # noqa: S311 (nothing secret)
PEOPLE, PICTURES = 20, 100
TURNS = 300
CREATES_A_SECOND, CREATE_SECONDS = 20, 60
MIXED_A_SECOND, MIXED_SECONDS = 100, 30
THREADS = 32
# The server closes what is idle for two.
KEPT_ALIVE_SECONDS = 1
BODY: dict[str, Any] = {"prompt": "a big yellow star on a blue background", "width": 64, "height": 64}
LARGE: dict[str, Any] = {
    "prompt": "a big yellow star on a blue background",
    "width": 256,
    "height": 256,
    "count": 4,
}


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]


def milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms, p95 {p95(seconds) * 1000:.1f} ms"


@dataclass
class Person:
    """Somebody with a token and a session."""

    user: Any
    token: str
    cookie: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}


def people() -> list[Person]:
    from django.test import Client

    from accounts.models import ApiToken, User

    made = []
    for n in range(PEOPLE):
        user = User.objects.create_user(f"person-{n}")
        client = Client()
        client.force_login(user)
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
        made.append(Person(user, ApiToken.objects.create(user, name="bench")[1], cookie))
    return made


# In this process: what the server's own code takes ----------------------------------------------------


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bare_view() -> Any:
    """A DRF view that checks the same fields and inserts one row, and no more."""
    from rest_framework import serializers
    from rest_framework.response import Response
    from rest_framework.views import APIView

    from generation.models import Job

    class Asked(serializers.ModelSerializer[Job]):
        class Meta:
            model = Job
            fields = ("id", "prompt", "width", "height", "count", "seed", "steps", "engine")
            read_only_fields = ("id",)

    class Bare(APIView):
        throttle_classes = ()

        def post(self, request: Any) -> Response:
            asked = Asked(data={"count": 1, "seed": 1, "steps": 4, "engine": "bf16", **request.data})
            asked.is_valid(raise_exception=True)
            asked.save(owner=request.user)
            return Response(asked.data, 201)

    return Bare.as_view()


def create_against_bare(person: Person) -> str:
    from rest_framework.test import APIRequestFactory

    from generation.api.views.jobs import JobViewSet

    factory = APIRequestFactory(headers=person.headers)
    views = {"ours": JobViewSet.as_view({"post": "create"}), "bare": bare_view()}
    taken: dict[str, list[float]] = {name: [] for name in views}
    for turn in range(TURNS + 20):
        for name, view in views.items():
            request = factory.post("/api/v1/jobs/", BODY, format="json")
            seconds = timed(lambda view=view, request=request: view(request).render())  # type: ignore[misc]
            if turn >= 20:
                taken[name].append(seconds)
    times = statistics.median(taken["ours"]) / statistics.median(taken["bare"])
    return (
        f"create (≤ 3 × a bare view): {times:.2f} ×; ours {milliseconds(taken['ours'])}, "
        f"bare {milliseconds(taken['bare'])}"
    )


def unchanged_status(person: Person) -> str:
    """With all of Django's middleware, as a request goes through the server."""
    from django.test import Client

    from generation.models import Job

    ids = [str(pk) for pk in Job.objects.filter(owner=person.user).values_list("pk", flat=True)[:4]]
    client, path = Client(headers=person.headers), f"/api/v1/jobs/status/?ids={','.join(ids)}"
    etag = {"If-None-Match": client.get(path)["ETag"]}
    answers = Counter(client.get(path, headers=etag).status_code for _ in range(20))
    taken = [timed(lambda: client.get(path, headers=etag)) for _ in range(TURNS)]
    return f"status of {len(ids)} jobs, unchanged (≤ 5 ms): {milliseconds(taken)}; answers {dict(answers)}"


# Over HTTP --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


@dataclass
class Load:
    """Requests at a steady rate; ``seconds``: of each, ``answers``: how many by status."""

    port: int
    seconds: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    etags: dict[str, str] = field(default_factory=dict)

    def send(self, requests: Iterator[Request], rate: float, duration: float) -> float:
        """Returns how long all of them took, in seconds."""
        due: queue.Queue[tuple[float, Request] | None] = queue.Queue()
        threads = [threading.Thread(target=self._work, args=[due]) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        for n, request in enumerate(itertools.islice(requests, round(rate * duration))):
            at = start + n / rate
            time.sleep(max(0.0, at - time.perf_counter()))
            due.put((at, request))
        for _ in threads:
            due.put(None)
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def _work(self, due: "queue.Queue[tuple[float, Request] | None]") -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        used_at = 0.0
        while (item := due.get()) is not None:
            at, request = item
            if time.perf_counter() - used_at > KEPT_ALIVE_SECONDS:
                connection.close()  # it opens itself anew
            known = {"If-None-Match": self.etags[request.path]} if request.path in self.etags else {}
            connection.request(request.method, request.path, request.body, {**request.headers, **known})
            answer = connection.getresponse()
            answer.read()
            if "status/?ids" in request.path and (etag := answer.headers.get("ETag")):
                self.etags[request.path] = etag
            used_at = time.perf_counter()
            self.seconds.append(used_at - at)
            self.answers[answer.status] += 1
        connection.close()


def creates(everybody: list[Person]) -> Iterator[Request]:
    body = json.dumps(BODY).encode()
    for person in itertools.cycle(everybody):
        yield Request("POST", "/api/v1/jobs/", person.headers, body)


def mixed(everybody: list[Person]) -> Iterator[Request]:
    """Of ten, six polls, three thumbnails and a page."""
    from generation.models import Image, Job

    jobs = {person.token: Job.objects.filter(owner=person.user).order_by("-pk")[:2] for person in everybody}
    polled = {token: ",".join(str(job.pk) for job in found) for token, found in jobs.items()}
    images = list(Image.objects.values_list("pk", "owner__username"))
    owners = {person.user.username: person for person in everybody}
    while True:
        kind = rng.random()
        person = rng.choice(everybody)
        if kind < 0.6:
            yield Request("GET", f"/api/v1/jobs/status/?ids={polled[person.token]}", person.headers)
        elif kind < 0.9:
            pk, owner = rng.choice(images)
            yield Request("GET", f"/api/v1/images/{pk}/thumbnail/", owners[owner].headers)
        else:
            yield Request("GET", rng.choice(("/", "/gallery/", "/history/")), {"Cookie": person.cookie})


def grey_pictures(everybody: list[Person]) -> None:
    """Pictures to show."""
    import PIL.Image

    from generation import pictures
    from generation.models import Job

    for n in range(PICTURES):
        owner = everybody[n % len(everybody)].user
        job = Job.submit(owner, **LARGE | {"count": 1, "steps": 4, "engine": "bf16"})
        Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING, attempt=1)
        job.refresh_from_db()
        grey = PIL.Image.frombytes("RGB", (256, 256), rng.randbytes(256 * 256 * 3))
        pictures.store(job, 0, job.seed, grey, model="a model", backend="a backend")
        Job.objects.filter(pk=job.pk).update(state=Job.State.SUCCEEDED)


def over_http(site: Site, everybody: list[Person]) -> Iterator[str]:
    from generation.models import Job
    from gpu.models import Pool

    Pool.objects.update_or_create(engine="bf16", defaults={"queue_limit": 100_000})
    port = free_port()
    web = subprocess.Popen(server.command(f"127.0.0.1:{port}"), env=site.environment, cwd=ROOT)
    try:
        wait_until(lambda: _answers(port))
        before, load = Job.objects.count(), Load(port)
        taken = load.send(creates(everybody), CREATES_A_SECOND, CREATE_SECONDS)
        lost = load.answers[201] - (Job.objects.count() - before)
        yield (
            f"create (≥ {CREATES_A_SECOND}/s for {CREATE_SECONDS} s, none lost): "
            f"{len(load.seconds) / taken:.1f}/s, answers {dict(load.answers)}, {lost} lost; "
            f"{milliseconds(load.seconds)}"
        )
        # What is left of those would be drawn first.
        Job.objects.filter(state=Job.State.QUEUED).update(state=Job.State.CANCELLED)
        grey_pictures(everybody)
        for person in everybody:
            for _ in range(10):
                Job.submit(person.user, **LARGE | {"steps": 4, "engine": "bf16"})
        site.start("workers", "--bf16", "cpu")
        wait_until(lambda: Job.objects.filter(draw_seconds__gt=0).exists())
        drawn, load = Job.objects.filter(draw_seconds__gt=0).count(), Load(port)
        load.send(mixed(everybody), MIXED_A_SECOND, MIXED_SECONDS)
        drawn = Job.objects.filter(draw_seconds__gt=0).count() - drawn
        yield (
            f"mixed load (p95 ≤ 300 ms at {MIXED_A_SECOND}/s for {MIXED_SECONDS} s): "
            f"{milliseconds(load.seconds)}; answers {dict(load.answers)}; "
            f"{drawn * LARGE['count']} pictures drawn meanwhile"
        )
    finally:
        web.terminate()
        web.wait(60)


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    database = parser.parse_args().database
    with new_site(database, FLUXSITE_ALLOWED_HOSTS="127.0.0.1,testserver") as site:
        site.manage("collectstatic", "--noinput", "--verbosity", "0")
        site.enter()
        everybody = people()
        print(f"{database}, {platform.processor() or platform.machine()}", flush=True)
        for line in (create_against_bare(everybody[0]), unchanged_status(everybody[0])):
            print(line, flush=True)
        for line in over_http(site, everybody):
            print(line, flush=True)


if __name__ == "__main__":
    main()
