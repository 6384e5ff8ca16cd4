"""Private files: pictures and LoRAs, on this host's disk or in an S3-compatible store that all hosts share.

``storage`` is the one that the settings chose. Everything else goes through it, by names that we made.
"""

from typing import cast

from django.core.files.storage import default_storage

from files.storage import PrivateStorage

storage = cast(PrivateStorage, default_storage)
