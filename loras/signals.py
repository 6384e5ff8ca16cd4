"""What the library tells those who know more than it: ``generation`` listens, and is not imported."""

from django.dispatch import Signal

# Somebody wants to store something (arguments: owner, size in bytes), in a transaction. A receiver raises
# an APIException where there is no room.
storage_wanted = Signal()
# A LoRA is in the library and is to be tried on the engines, again or for the first time (argument: lora).
lora_admitted = Signal()
