"""A checkpoint goes on with the base model and the data it was made with."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lightning_lora.digests import first_difference


class SameOrigin(Callback):
    """Keeps digests of the base model's tensors and of the data in every checkpoint, and compares them on resuming.

    The frozen base is in no checkpoint, so nothing else would show that the adapter now stands on other weights.
    """

    def __init__(self, base: Mapping[str, str], data: str, *, check: bool = True) -> None:
        """Keep what this run has.

        Args:
            base: A digest of every tensor of the base model (`digests.tensor_digests`).
            data: Fingerprint of the rows.
            check: Whether to compare at all.
        """
        self._base, self._data, self._check = dict(base), data, check

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["origin"] = {"base": self._base, "data": self._data}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare.

        Raises:
            ValueError: the checkpoint was made with another base model or with other data.
        """
        if not self._check:
            return
        saved = checkpoint["origin"]
        advice = "give back what it was made with, or add resume_anyway=true"
        if name := first_difference(saved["base"], self._base):
            raise ValueError(
                f"the checkpoint was made with another base model, {name} is the first tensor that differs; {advice}"
            )
        if saved["data"] != self._data:
            raise ValueError(f"the checkpoint was made with other data; {advice}")
