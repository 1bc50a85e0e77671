"""Stop when the dev score no longer rises."""

from lightning.pytorch.callbacks import EarlyStopping


class DevScoreStopping(EarlyStopping):
    """Stops after ``patience`` dev passes without a better headline metric."""

    def __init__(self, patience: int) -> None:
        """Watch ``dev/score``.

        Args:
            patience: Dev passes to wait for a better score, from 1.

        Raises:
            ValueError: ``patience`` is below 1.
        """
        if patience < 1:
            raise ValueError(f"trainer.early_stopping_patience={patience} must be 1 or more; null turns it off")
        super().__init__(
            monitor="dev/score",
            mode="max",
            patience=patience,
            # A run that ends within its first epoch has no score at the end of it.
            check_on_train_epoch_end=False,
        )
