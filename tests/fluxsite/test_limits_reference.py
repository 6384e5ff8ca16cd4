"""The page of limits says what the code does, of every route."""

from pathlib import Path

from django.conf import settings

from fluxsite import limits_reference
from tests import addresses


def test_the_page_is_as_the_code_is() -> None:
    page = Path(settings.BASE_DIR) / "docs" / "limits.md"
    assert page.read_text() == limits_reference.page(), "run manage.py limits_reference > docs/limits.md"


def test_every_route_is_on_it() -> None:
    page = limits_reference.page()
    assert [route for route in addresses.routes() if f"| `/{route}` |" not in page] == []
    assert "| `/loras/upload/` | 1,000,010,000 | 1,000 MB | – |" in page
    assert "| `/api/v1/jobs/` | 1,000,000 | – | 3000 |" in page
