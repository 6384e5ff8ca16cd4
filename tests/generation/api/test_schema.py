"""The schema: every field explained; and requests made of it at random, to which every answer keeps."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from hypothesis import strategies
from rest_framework.test import APIClient
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import ApiToken, User
from fluxsite.wsgi import application as django_application
from generation.models import Collection
from gpu.models import Worker
from loras.models import Lora
from tests.conftest import client_of
from tests.generation.drawn import finished
from tests.loras.test_uploads import add

CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Answers in time, and they say so: a job is not waited for here.
NOT_OUR_FAULT = {504}
LISTS = ("jobs", "images", "collections", "loras", "workers", "engines")


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    return dict(client.get("/api/v1/schema/").json())


def test_the_schema_is_the_same_for_everybody_and_sent_once(client: Client) -> None:
    first = client.get("/api/v1/schema/")
    assert (first.status_code, first["Content-Type"]) == (200, "application/json")
    assert client.get("/api/v1/schema/", headers={"If-None-Match": first["ETag"]}).status_code == 304


@pytest.mark.parametrize("path", ["nothing/", "jobs", "jobs/1/", "a%0Ab/"])
def test_an_address_that_is_none_is_answered_in_json(alice: User, path: str) -> None:
    response = client_of(alice).get(f"/api/v1/{path}")
    assert response.status_code == 404
    assert "Addresses end in a slash" in response.json()["errors"][0]["detail"]


def properties(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, component in document["components"]["schemas"].items():
        for field, schema in component.get("properties", {}).items():
            yield f"{name}.{field}", schema


def test_every_field_has_a_description_and_an_example(document: dict[str, Any]) -> None:
    """Where the field is a choice or another component, that says it; a file is none that can be shown."""
    for name, schema in properties(document):
        assert schema.get("description"), name
        explains_itself = "$ref" in json.dumps(schema) or "enum" in schema or schema.get("format") == "binary"
        assert '"example"' in json.dumps(schema) or explains_itself, name


def test_every_operation_is_described_and_knows_its_errors(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            errors = {"401", "403", "429", "503"}
            assert path.startswith("/v1/images/files/") or errors <= set(operation["responses"])
            for parameter in operation.get("parameters", ()):
                in_path = parameter["in"] == "path"
                assert in_path or parameter.get("description"), (method, path, parameter["name"])


def application(environ: Any, start_response: Any) -> list[bytes]:
    """The product's, with every answer read and closed, as a web server does."""
    answer = django_application(environ, start_response)
    try:
        return [b"".join(answer)]
    finally:
        answer.close()


class Studio:
    """An administrator's token, and something of everything there is to be asked for."""

    def __init__(self, owner: User) -> None:
        self.owner = owner
        token = ApiToken.issue(owner, "all", list(ApiToken.SCOPES), timedelta(days=1))
        self.headers = {"Authorization": f"Bearer {token}"}

    def ids(self) -> dict[str, str]:
        """What a parameter of a path may be, by the path's first word: new, as the last may be deleted."""
        job = finished(self.owner)
        collection = Collection.objects.create(owner=self.owner, name=str(job.pk))
        worker = Worker.start("host", "cpu", "bf16", 1)
        Lora.objects.all().delete()
        add(self.owner, name="Fog")
        Lora.objects.update(state=Lora.State.READY)  # its trials would wait for the worker
        return {
            "jobs": str(job.pk), "images": str(job.images.get().pk), "collections": str(collection.pk),
            "workers": str(worker.pk), "loras": "fog", "engines": "bf16", "models": "fluxsite-demo:fog",
        }  # fmt: skip


def ask_at_random(studio: Studio, examples: int, **options: Any) -> int:
    """Send so many requests to each operation, and as many such as the schema forbids; returns how many."""
    schema = schemathesis.openapi.from_wsgi("/api/v1/schema/", application)
    sent, wrong = 0, []
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 35
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            try:
                sent += _ask(operation, mode, studio, examples, options)
            except (Exception, FailureGroup) as error:  # all of them are to be seen at once
                wrong.append(f"{operation.label}, {mode.value}: {error!r}: {error}"[:1500])
                print(wrong[-1])  # noqa: T201 (a long run takes minutes)
    assert not wrong, "\n\n".join(wrong)
    return sent


def _ask(operation: Any, mode: Any, studio: Studio, examples: int, options: dict[str, Any]) -> int:
    known = next((pk for part, pk in studio.ids().items() if f"/{part}" in operation.path), None)
    sent = 0

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck), **options,
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), is_known=strategies.booleans())
    def send(case: Any, is_known: bool) -> None:
        nonlocal sent
        sent += 1
        if is_known and known and case.path_parameters:
            case.path_parameters = dict.fromkeys(case.path_parameters, known)
        response = case.call(headers=studio.headers)
        if response.status_code not in NOT_OUR_FAULT:
            case.validate_response(response, checks=CHECKS)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:  # nothing can be wrong where nothing is asked
        assert mode == schemathesis.GenerationMode.NEGATIVE
    return sent


def lists_work(studio: Studio) -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=studio.headers["Authorization"])
    for name in LISTS:
        assert client.get(f"/api/v1/{name}/?limit=200").status_code == 200, name


@pytest.fixture
def studio(db: None, settings: Any) -> Iterator[Studio]:
    settings.FLUXSITE_WAIT_SECONDS = 0
    # As Django's own test client does: the connection is the test's.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield Studio(User.objects.create_superuser("root", password=None))
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def test_answers_keep_to_the_schema_whatever_is_asked(studio: Studio) -> None:
    assert ask_at_random(studio, examples=6, derandomize=True) > 300
    lists_work(studio)


@pytest.mark.slow
def test_answers_keep_to_the_schema_ten_thousand_times(studio: Studio) -> None:
    """SCHEMA_EXAMPLES: requests for each operation and mode."""
    sent = ask_at_random(studio, examples=int(os.environ.get("SCHEMA_EXAMPLES", "200")))
    print(f"{sent:,} requests")  # noqa: T201
    assert sent >= 10_000
    lists_work(studio)
