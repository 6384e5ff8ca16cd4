"""``manage.py models``: models in the file store, for all hosts."""

from argparse import ArgumentParser
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from files import shared_models
from gpu.model_card import ModelCard
from gpu.model_size import ModelSize


class Command(BaseCommand):
    help = (
        "share DIR: put a model in diffusers layout where all hosts have their files; each fetches it on "
        "first use. list: those that are there. remove NAME: delete one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        share = actions.add_parser("share", help="put a model there")
        share.add_argument("directory", type=Path, metavar="DIR")
        share.add_argument("--name", help="what it is called from then on (default: as the directory)")
        actions.add_parser("list", help="those that are there")
        remove = actions.add_parser("remove", help="delete one; hosts keep their copies while they have room")
        remove.add_argument("name")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            getattr(self, f"_{action}")(options)
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _share(self, options: dict[str, Any]) -> None:
        directory: Path = options["directory"].resolve()
        name = options["name"] or directory.name
        if not name.replace("-", "").replace(".", "").isalnum() or name.startswith("."):
            raise CommandError(f"--name {name}: letters, digits, dots and hyphens.")
        ModelCard.of(str(directory))
        facts = {"parameters": asdict(ModelSize.of(str(directory)))}
        try:
            parts = shared_models.share(directory, name, partial(tqdm, unit=" files", disable=None), **facts)
        except shared_models.NameTaken:
            raise CommandError(f"There is another model called {name}. Choose a --name of its own.") from None
        self.stdout.write(f"{name}: {_size(parts)}.")
        self.stdout.write(f"On every host set FLUXSITE_MODEL=store:{name}, and FLUXSITE_CACHE_MB above that.")

    def _list(self, options: dict[str, Any]) -> None:
        for name in shared_models.names():
            used = " (FLUXSITE_MODEL)" if name == settings.SHARED_MODEL else ""
            self.stdout.write(f"{name}  {_size(shared_models.parts_of(name))}{used}")

    def _remove(self, options: dict[str, Any]) -> None:
        if options["name"] == settings.SHARED_MODEL:
            raise CommandError(
                f"FLUXSITE_MODEL is store:{options['name']}. Set another one on every host first."
            )
        self.stdout.write(f"{shared_models.remove(options['name']) / 1e6:,.1f} MB deleted.")


def _size(parts: list[shared_models.Part]) -> str:
    return f"{len(parts)} files, {sum(part.size for part in parts) / 1e6:,.1f} MB"
