"""The LightningDataModule: a task's rows as batches."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from lightning_lora.data.cache import cache_folder, load_or_build
from lightning_lora.data.collation import Padding, collator_for, in_one_row
from lightning_lora.data.encoding import check_max_length, check_not_empty, encode
from lightning_lora.data.fingerprint import data_fingerprint, examples_fingerprint, token_key, tokenizer_fingerprint
from lightning_lora.data.hidden_states import hidden_states_key, load_or_compute
from lightning_lora.data.loading import ResumableLoader
from lightning_lora.data.sampling import EpochOrder
from lightning_lora.data.splits import drawn, read_splits, task_of
from lightning_lora.data.tokens import Row, TokenDataset
from lightning_lora.data.validation import Split
from lightning_lora.tasks import Task

Batches = DataLoader[Row]


class TextDataModule(LightningDataModule):
    """A task's rows as batches, with as much padding as asked for.

    A batch is a dict of the tokenizer's outputs (int64, (rows, longest)), ``labels`` (int64, or float32 for regression)
    and ``idx`` (int64). Without padding it has the outputs of all rows after one another, (1, tokens), and ``lengths``;
    with padding among like lengths ``groups``, a list of dicts. The rows of a batch are always the same. Training
    batches are shuffled by (seed, epoch); the last one may be smaller. Their loader goes on in the midst of an epoch.
    Dev splits have one loader each, in the order of ``task.dev_splits``, and come longest rows first, so that little of
    a batch is padding; in their own order where the trainer takes only some of their batches, which would be the long.

    After `setup()`: ``fingerprint`` of what is trained and scored on, ``train_size``, ``dev_sizes``; ``facts`` for a
    record.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        *,
        path: str | Path | None = None,
        holdout: float | None = None,
        train_rows: int | None = None,
        max_length: int = 128,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        cache_dir: str | Path | None = None,
        max_positions: int | None = None,
        padding: Padding = "longest",
    ) -> None:
        """Reads nothing yet.

        Args:
            task: What to read and to predict.
            tokenizer: The model's, with a padding token.
            path: A local folder or file; None for the task's own source.
            holdout: Share of the training split that is measured on, in the place of the dev splits. The rows are the
                same for every seed.
            train_rows: Size of a random subset of what is left to train on, drawn by ``seed``; None for all.
            max_length: Rows are cut to so many tokens.
            batch_size: Rows per batch.
            seed: Of the subset and of the shuffling.
            num_workers: Processes that collate; 0 collates in this one. Batches are the same with any number.
            cache_dir: Where tokens are kept; see `lightning_lora.data.cache.cache_folder`.
            max_positions: Tokens the model takes, where its tokenizer does not know.
            padding: To the "longest" of the batch, among rows of "like_lengths", or "none".

        Raises:
            ValueError: a length, size or seed that is not possible.
        """
        super().__init__()
        for name, value, lowest in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed, 0)):
            if value < lowest:
                raise ValueError(f"{name}={value} must be {lowest} or more")
        check_max_length(tokenizer, max_length, pairs=len(task.text_columns) == 2, max_positions=max_positions)
        self.task, self.tokenizer, self.path = task_of(task, holdout), tokenizer, path
        self._as_it_stands, self.holdout = task, holdout
        self.train_rows, self.max_length, self.batch_size = train_rows, max_length, batch_size
        self.seed, self.num_workers, self.cache_dir = seed, num_workers, cache_dir
        self.collate = collator_for(tokenizer, padding)
        self._sets: dict[str, TokenDataset] = {}
        self._keys: dict[str, str] = {}
        self._fingerprint = self._drawn_from = ""
        self._examples: dict[str, str] = {}

    def prepare_data(self) -> None:
        """Fills the caches; Lightning calls it on one process per machine before the others read."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Reads, checks and tokenises all splits, once; the fingerprints take 0.1 s for 400,000 pairs.

        Raises:
            DataError, TokenizerError: see `read_splits`, `drawn`, `encode`, `check_not_empty`; all are ``ValueError``.
        """
        if self._sets:
            return
        every_row = read_splits(self._as_it_stands, self.path, self.holdout)
        splits = drawn(every_row, self.task, self.train_rows, self.seed)
        self._drawn_from, self._fingerprint = data_fingerprint(every_row), data_fingerprint(splits)
        self._examples = {name: examples_fingerprint(splits[name]) for name in self.task.dev_splits}
        tokenizer = tokenizer_fingerprint(self.tokenizer)
        self._keys = {name: token_key(split.texts, tokenizer, self.max_length) for name, split in splits.items()}
        self._sets = {name: self._tokenise(split, self._keys[name]) for name, split in splits.items()}

    @property
    def fingerprint(self) -> str:
        """sha256 of the texts and labels of all splits, the training subset applied."""
        assert self._sets, "setup() comes first"
        return self._fingerprint

    @property
    def train_size(self) -> int:
        return len(self._sets[self.task.train_split])

    @property
    def dev_sizes(self) -> dict[str, int]:
        return {name: len(self._sets[name]) for name in self.task.dev_splits}

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says of the data, see `RunRecord.data`."""
        return {
            "fingerprint": self.fingerprint,
            "drawn_from": self._drawn_from,
            "examples": self._examples,
            "rows": {self.task.train_split: self.train_size, **self.dev_sizes},
        }

    def train_dataloader(self) -> Batches:
        data = self._sets[self.task.train_split]
        return self._loader(ResumableLoader, data, EpochOrder(len(data), self.seed))

    def val_dataloader(self) -> list[Batches]:
        limit = 1.0 if self.trainer is None else self.trainer.limit_val_batches
        every_batch = isinstance(limit, float) and limit == 1.0  # the whole number 1 is one batch
        sets = [self._sets[name] for name in self.task.dev_splits]
        orders = [data.tokens.longest_first().tolist() if every_batch else None for data in sets]
        return [self._loader(DataLoader, data, order) for data, order in zip(sets, orders, strict=True)]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """All but ``lengths``: the model reads them, and each step would wait for a GPU that has them."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved | {"lengths": batch["lengths"]} if "lengths" in batch else moved

    def begin_at(
        self,
        block: int,
        facts: Mapping[str, Any],
        width: int,
        compute: Callable[[dict[str, Tensor]], Float[Tensor, "tokens width"]],
        show_progress: bool = False,
    ) -> None:
        """From now on batches have ``hidden``, what a model's block is given, and its number ``begin_at``.

        Args:
            block: The number.
            facts: Everything of the model that decides the hidden states, fit for JSON.
            width: Of the hidden states.
            compute: Gives those of a ragged batch, where they are not on disk yet.
            show_progress: While computing.

        Raises:
            ValueError, CannotWriteError: there is no room for them; see `load_or_compute`.
        """
        keys = {name: hidden_states_key(facts, self._keys[name]) for name in self._sets}
        tokens = {keys[name]: data.tokens for name, data in self._sets.items()}
        hidden = load_or_compute(cache_folder(self.cache_dir), tokens, width, compute, show_progress=show_progress)
        for name, data in self._sets.items():
            data.hidden = hidden[keys[name]]
        self.collate = partial(in_one_row, begin_at=block)

    def _tokenise(self, split: Split, key: str) -> TokenDataset:
        tokens = load_or_build(
            cache_folder(self.cache_dir),
            key,
            len(split),
            lambda: encode(split.texts, self.tokenizer, self.max_length),
        )
        check_not_empty(tokens, split.texts, lambda row: f"{split.origin}, idx {int(split.idx[row])}")
        return TokenDataset(tokens, split.labels, split.idx)

    def _loader(self, kind: type[Batches], data: TokenDataset, sampler: Iterable[int] | None = None) -> Batches:
        if self.num_workers:
            # Workers only pad. Without this, the tokenizers library prints a warning at every fork.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        return kind(
            data,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            worker_init_fn=_leave_the_process_group,
            persistent_workers=self.num_workers > 0,
            # Not with workers: a thread pins then, and would break off the recording of a CUDA graph.
            pin_memory=torch.cuda.is_available() and not self.num_workers,
            drop_last=False,
        )


def _leave_the_process_group(_worker: int) -> None:
    """A signal to the whole group, as of `timeout` or a terminal, is the run's to answer, which then ends its workers.

    torch has them die of it at once, and the run in the midst of a step of the loss of a worker.
    """
    if hasattr(os, "setsid"):  # not on Windows
        os.setsid()
