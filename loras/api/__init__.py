"""The API of the LoRA library."""
