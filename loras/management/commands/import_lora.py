"""Put LoRA files that are on this machine into the library."""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import APIException, ValidationError
from tqdm import tqdm

from accounts.models import User
from loras import uploads
from loras.models import Lora

CHUNK = 1024**2


class Command(BaseCommand):
    help = "Put LoRA files into the library. The files themselves stay where they are."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a directory")
        parser.add_argument("--recursive", action="store_true", help="look into directories below, too")
        parser.add_argument("--owner", help="a user name; without it the first administrator")
        parser.add_argument("--everyone", action="store_true", help="share them with everyone")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = self._owner(options["owner"])
        files = list(self._files(options["paths"], recursive=options["recursive"]))
        visibility = Lora.Visibility.EVERYONE if options["everyone"] else Lora.Visibility.PRIVATE
        refused = 0
        size = sum(path.stat().st_size for path in files)
        with tqdm(total=size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            for path in files:
                try:
                    lora = self._import(path, owner, visibility, bar)
                    line = self.style.SUCCESS(f"{path.name}: {lora.slug}, {lora.size / 1e6:,.1f} MB")
                except (APIException, OSError) as error:
                    refused += 1
                    line = self.style.ERROR(f"{path.name}: {_sentence(error)}")
                bar.write(line, file=self.stdout)
        if refused:
            raise CommandError(f"{refused} of {len(files)} files could not be imported.")

    @staticmethod
    def _owner(name: str | None) -> User:
        users = User.objects.named(name) if name else User.objects.filter(is_superuser=True)
        if owner := users.order_by("pk").first():
            return owner
        raise CommandError(
            f"There is no user {name}." if name else "There is no administrator yet: --owner NAME."
        )

    @staticmethod
    def _files(paths: list[Path], *, recursive: bool) -> Iterator[Path]:
        for path in paths:
            if not path.is_dir():
                if not path.is_file():
                    raise CommandError(f"There is no file {path}.")
                yield path
                continue
            found = sorted(path.glob("**/*.safetensors" if recursive else "*.safetensors"))
            if not found:
                raise CommandError(f"There is no .safetensors file in {path}.")
            yield from found

    @staticmethod
    def _import(path: Path, owner: User, visibility: str, bar: "tqdm[Any]") -> Lora:
        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    bar.update(len(chunk))
                    yield chunk

        with uploads.receive(owner, chunks(), path.stat().st_size) as incoming:
            facts = incoming.inspect()
            said = {"name": uploads.name_of(facts, path.name), "trigger_words": facts.trigger_words}
            return incoming.keep(facts, visibility=visibility, **said)


def _sentence(error: APIException | OSError) -> str:
    if isinstance(error, ValidationError | uploads.NotAdmitted):
        return " ".join(str(sentence) for sentences in error.detail.values() for sentence in sentences)  # type: ignore[union-attr]
    return str(error.detail if isinstance(error, APIException) else error)
