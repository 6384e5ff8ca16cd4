"""The web server: gunicorn with a worker class that slow clients cannot fill. ``manage.py up`` starts it."""

import sys
from pathlib import Path

from fluxsite.server import limits

BASE_DIR = Path(__file__).resolve().parents[2]


def command(bind: str, waiting_requests: int = 16) -> list[str]:
    """The command that serves the pages at ``bind``; so many requests may wait for their pictures."""
    return [
        sys.executable, "-m", "gunicorn", "fluxsite.wsgi", "--bind", bind,
        "--worker-class", "fluxsite.server.worker.PatientWorker", "--workers", "1",
        "--threads", str(limits.threads(waiting_requests)),
        "--chdir", str(BASE_DIR), "--log-level", "warning", "--no-control-socket",
    ]  # fmt: skip
