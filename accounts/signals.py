"""What accounts tell those who know more than they do: ``generation`` listens, and is not imported."""

from django.dispatch import Signal

# An account was switched off by a statement that sends no ``post_save`` (argument: instance), in its
# transaction.
account_closed = Signal()
