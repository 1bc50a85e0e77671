"""A checkpoint goes on with the base model and the data it was made with, in the precision it was trained in."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lightning_lora.digests import first_difference


class SameOrigin(Callback):
    """Keeps digests of the base model's tensors and of the data in every checkpoint, and compares them on resuming.

    The frozen base is in no checkpoint, so nothing else would show that the adapter now stands on other weights. Nor
    is the device, which decides what `trainer.precision=auto` comes to.
    """

    def __init__(self, base: Mapping[str, str], data: str, precision: str, *, check: bool = True) -> None:
        """Keep what this run has.

        Args:
            base: A digest of every tensor of the base model (`digests.tensor_digests`).
            data: Fingerprint of the rows.
            precision: What is trained in.
            check: Whether to compare at all.
        """
        self._base, self._data, self._precision, self._check = dict(base), data, precision, check

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["origin"] = {"base": self._base, "data": self._data, "precision": self._precision}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare.

        Raises:
            ValueError: the checkpoint was made with another base model, with other data or in another precision.
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
        # Earlier versions did not keep it.
        if (precision := saved.get("precision", self._precision)) != self._precision:
            raise ValueError(
                f"the checkpoint was trained in {precision}, and this run would go on in {self._precision}; "
                f"give trainer.precision={precision}, or add resume_anyway=true"
            )
