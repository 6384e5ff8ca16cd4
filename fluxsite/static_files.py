"""The pages' own static files."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Static files under names that hold their hash, so that browsers keep them for ever.

    That goes for what an ES module imports, too: without it a new page would meet an old module.
    """

    support_js_module_import_aggregation = True
