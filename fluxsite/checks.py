"""System checks. Each says what is wrong and what mends it."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

import environ
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connection

from fluxsite import settings_reference
from gpu.model_card import ModelCard
from gpu.nunchaku_package import wrong_nunchaku


@register()
def model_is_there(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E001: ``FLUXSITE_MODEL`` looks like a path and there is no model at it."""
    if settings.SHARED_MODEL and not Path(settings.FLUXSITE_MODEL).exists():
        return []  # whoever starts something fetches it, and says what is wrong
    try:
        ModelCard.of(settings.FLUXSITE_MODEL)
    except (OSError, ValueError) as error:
        return [
            Error(
                f"The model at FLUXSITE_MODEL={settings.FLUXSITE_MODEL} cannot be used: {error}",
                hint="Give a directory in diffusers layout (it holds model_index.json), a hub id such as "
                "black-forest-labs/FLUX.1-schnell, or leave it out for the demo model.",
                id="fluxsite.E001",
            )
        ]
    return []


@register()
def lease_outlasts_a_load(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E002: a lease so short that a healthy worker would lose its job."""
    if settings.FLUXSITE_LEASE_SECONDS >= 3:
        return []
    return [
        Error(
            f"FLUXSITE_LEASE_SECONDS is {settings.FLUXSITE_LEASE_SECONDS}; heartbeats come each third of it.",
            hint="Use 60, or at least 3.",
            id="fluxsite.E002",
        )
    ]


@register()
def nunchaku_is_the_engine(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """W003: PyPI's package called nunchaku is installed, which is another program. BF16 works on."""
    if not wrong_nunchaku():
        return []
    return [
        Warning(
            "The installed package nunchaku is not the 4-bit engine: PyPI's project of that name is about "
            "piecewise-linear segments.",
            hint="Run: pip uninstall nunchaku. For the engine, make a virtual environment of its own and "
            "install requirements-fp4.txt in it.",
            id="fluxsite.W003",
        )
    ]


@register()
def variables_are_known(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """W004: a variable with our prefix that nothing reads."""
    return [
        Warning(
            f"Nothing reads {name}.",
            hint=f"Is it {nearest}? docs/settings.md has them all." if nearest else "See docs/settings.md.",
            id="fluxsite.W004",
        )
        for name, nearest in settings_reference.unknown(list(os.environ)).items()
    ]


@register()
def a_shared_store_has_a_shared_database(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """W005: files in a store, and SQLite, where whoever writes to the store keeps all others from writing."""
    if not settings.FLUXSITE_STORAGE_URL or connection.vendor != "sqlite":
        return []
    return [
        Warning(
            "FLUXSITE_STORAGE_URL is set and the database is SQLite: while a LoRA goes to the store nobody "
            "else can write, and workers and pages fail if that takes longer than 20 s.",
            hint="Set FLUXSITE_DATABASE_URL to a PostgreSQL database, or leave FLUXSITE_STORAGE_URL out.",
            id="fluxsite.W005",
        )
    ]


@register()
def no_database_is_left_elsewhere(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """W006: release 0.1 read the path of its database as a URL, where #, ? and % have meanings."""
    path = str(connection.settings_dict["NAME"])
    if path != str(settings.VAR_DIR / "fluxsite.sqlite3"):
        return []
    with suppress(ValueError):
        elsewhere = Path(str(environ.Env.db_url_config(f"sqlite:///{path}")["NAME"]))
        if str(elsewhere) != path and elsewhere.is_file():
            return [
                Warning(
                    f"Release 0.1 kept the database of this data directory in {elsewhere}; now it is {path}.",
                    hint=f"Stop the studio, and: mv {quote(str(elsewhere))} {quote(path)}. Look first "
                    "whether another data directory used the same file.",
                    id="fluxsite.W006",
                )
            ]
    return []


@register()
def the_address_is_one(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E007: ``FLUXSITE_URL`` has no scheme or host, or has a path; parts of it would have no effect."""
    try:
        parts = urlsplit(settings.FLUXSITE_URL)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_one = is_one and not (parts.path or parts.query or parts.fragment or parts.username)
    except ValueError:  # a port that is no number
        is_one = False
    if is_one:
        return []
    return [
        Error(
            f"FLUXSITE_URL is {settings.FLUXSITE_URL!r}, which is not the address of a studio.",
            hint="Use http:// or https://, a host name, and a port if needed, such as "
            "https://studio.example. A studio cannot live below a path.",
            id="fluxsite.E007",
        )
    ]
