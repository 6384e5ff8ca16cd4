"""What the storages announce before they act; receivers get ``storage``."""

from django.dispatch import Signal

# Before a file is written at its name.
before_save = Signal()
# Before a file is deleted. A receiver that raises keeps the file.
before_delete = Signal()
