"""The product's settings in a directory that lives as long as the tests, with a hash that costs nothing."""

import atexit
import os
import shutil
import tempfile

for name in [name for name in os.environ if name.startswith("FLUXSITE_")]:
    del os.environ[name]
os.environ["FLUXSITE_DATA_DIR"] = tempfile.mkdtemp(prefix="fluxsite-tests-")
atexit.register(shutil.rmtree, os.environ["FLUXSITE_DATA_DIR"], ignore_errors=True)

from fluxsite.settings import *  # noqa: E402, F403
from fluxsite.settings import DATABASES, STORAGES, VAR_DIR  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
# A file, not memory: the queue's tests open several connections.
DATABASES["default"]["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
