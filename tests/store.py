"""An S3 server (moto's) on this machine, with nothing in it that must be kept."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from files.address import options_of
from files.shared import SharedStorage


@contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[str]:
    """While it runs: its host and port."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(address, 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop()


def new_bucket(server: str, name: str) -> str:
    """Its address for FLUXSITE_STORAGE_URL."""
    boto3.client(
        "s3", endpoint_url=f"http://{server}", region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="secret",
    ).create_bucket(Bucket=name)  # fmt: skip
    return f"s3://key:secret@{server}/{name}?region=us-east-1&tls=no"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as there:
        yield there


@pytest.fixture
def shared(server: str, tmp_path: Path, settings: Any) -> SharedStorage:
    """The studio's files are in a new bucket."""
    options = options_of(new_bucket(server, tmp_path.name.replace("_", "-")))
    settings.VAR_DIR = tmp_path
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "files.shared.SharedStorage", "OPTIONS": options}
    }
    return SharedStorage(**options)
