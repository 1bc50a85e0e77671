"""Which adapter is in force. One `Routing` object is shared by all adapted layers of a model."""

from dataclasses import dataclass


@dataclass
class Routing:
    """The adapter that every token goes through.

    Attributes:
        adapter: Name of the adapter, or None for the base model. Layers that do not carry it stay as their base.
    """

    adapter: str | None = None
