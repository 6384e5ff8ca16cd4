"""What the library tells those who know more than it: ``generation`` listens, and is not imported."""

from django.dispatch import Signal

# Somebody wants to store something (arguments: owner, size in bytes), in a transaction. A receiver raises
# an APIException where there is no room.
storage_wanted = Signal()
# A LoRA is in the library and was not tried on an engine yet (argument: lora).
lora_admitted = Signal()
# A LoRA is to be tried again (argument: lora).
trial_wanted = Signal()
