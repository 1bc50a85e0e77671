"""The schema's section of the data: which task, and where its rows come from."""
# ruff: noqa: RUF009 - the calls in the dataclass are all dataclasses.field, with a Setting as its metadata

import os
from dataclasses import dataclass

from lightning_lora import settings
from lightning_lora.settings import ConfigError
from lightning_lora.tasks import METRIC_FACTS, TASKS, Task, custom_task, find_task


@dataclass(kw_only=True)
class DataConfig:
    """The task, and where its rows come from."""

    task: str = settings.one_of("toy_sentiment", (*TASKS, "custom"), "the task")
    path: str | None = settings.text(
        None, "local folder or file: parquet, csv, tsv, jsonl; null is the hub's or embedded data"
    )
    train_rows: int | None = settings.whole(None, 1, "train on a seeded random subset of this many rows")
    holdout: float | None = settings.share(None, "measure on this share of the training rows, not on the dev splits")
    max_length: int = settings.whole(
        128, 4, "tokens at which a text is cut; each task but custom sets its own, 64 to 256"
    )
    ragged: bool = settings.flag(True, "the same batches without padding, or with little where the model needs some")
    num_workers: int = settings.whole(0, 0, "processes that build batches")
    cache_dir: str | None = settings.text(
        None, "where tokenised data are kept; null is $LIGHTNING_LORA_CACHE or ~/.cache/lightning-lora"
    )
    text_columns: list[str] | None = settings.texts(None, "custom: the one or two text columns", "1 or 2 columns", 2)
    label_column: str | None = settings.text(None, "custom: the label column (label)")
    labels: list[str] | None = settings.texts(None, "custom: class names in label order; [] for a number")
    metrics: list[str] | None = settings.some_of(None, tuple(METRIC_FACTS), "custom: what is measured")
    headline: str | None = settings.one_of(
        None, tuple(METRIC_FACTS), "custom: the metric that is the score (the first)"
    )
    train_split: str | None = settings.text(None, "custom: the split to train on (train)")
    dev_splits: list[str] | None = settings.texts(None, "custom: the splits to measure on ([validation])")

    def __post_init__(self) -> None:
        settings.check(self, "data.")
        for name in ("path", "cache_dir"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, os.path.expanduser(value))
        if self.task == "custom":
            for name, example in (("path", "my.csv"), ("text_columns", "[text]"), ("labels", "[no,yes]")):
                if getattr(self, name) is None:
                    raise ConfigError(f"data=custom needs data.{name}, for example data.{name}={example}")
            self.find_task()
            return
        custom = ("text_columns", "label_column", "labels", "metrics", "headline", "train_split", "dev_splits")
        for name in custom:
            if getattr(self, name) is not None:
                raise ConfigError(f"data.{name} has no effect with data={self.task}: it belongs to data=custom")

    def find_task(self) -> Task:
        """The task by name, or the user's own.

        Raises:
            ConfigError: what is said of the user's own task does not make one.
        """
        if self.task != "custom":
            return find_task(self.task)
        try:
            return custom_task(
                text_columns=self.text_columns or (),
                labels=self.labels or (),
                metrics=self.metrics or (),
                headline=self.headline,
                label_column=self.label_column or "label",
                train_split=self.train_split or "train",
                dev_splits=self.dev_splits or ("validation",),
            )
        except ValueError as error:
            raise ConfigError(f"data=custom: {error}") from error
