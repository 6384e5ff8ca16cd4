"""The product's settings in a directory that lives as long as the tests, with a hash that costs nothing.

FLUXSITE_TEST_DATABASE says where the test database is: ``sqlite``, ``postgresql`` for a server of the tests'
own, or the URL of a server. Nothing else comes from outside.
"""

import atexit
import os
import shutil
import tempfile

database = os.environ.get("FLUXSITE_TEST_DATABASE", "sqlite")
for name in [name for name in os.environ if name.startswith("FLUXSITE_")]:
    del os.environ[name]
os.environ["FLUXSITE_DATA_DIR"] = tempfile.mkdtemp(prefix="fluxsite-tests-")
atexit.register(shutil.rmtree, os.environ["FLUXSITE_DATA_DIR"], ignore_errors=True)

if database == "postgresql":
    from tests.postgresql import Server

    database = Server().url("postgres")
if database != "sqlite":
    # pytest-xdist's processes inherit it, and use the one server.
    os.environ["FLUXSITE_TEST_DATABASE"] = os.environ["FLUXSITE_DATABASE_URL"] = database

from fluxsite.settings import *  # noqa: E402, F403
from fluxsite.settings import DATABASES, STORAGES, VAR_DIR  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, not memory: the queue's tests open several connections.
    DATABASES["default"]["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
# Tests ask more in a minute than people may; those of the limit set their own.
FLUXSITE_REQUESTS_A_MINUTE = 0
