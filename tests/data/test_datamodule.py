from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from lightning import LightningModule, Trainer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lightning_lora.data.datamodule import TextDataModule
from lightning_lora.data.files import DataError
from lightning_lora.data.sampling import epoch_order, random_subset
from lightning_lora.tasks import TASKS, custom_task


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(tokenizer: PreTrainedTokenizerBase, cache: Path, glue: Path):
    def build(name: str, **settings) -> TextDataModule:
        data = TextDataModule(TASKS[name], tokenizer, **{"path": glue, "cache_dir": cache, **settings})
        data.setup()
        return data

    return build


def rows_of(glue: Path, name: str, split: str) -> int:
    return pq.read_metadata(glue / name / f"{split}.parquet").num_rows


def same(left: list[dict[str, torch.Tensor]], right: list[dict[str, torch.Tensor]]) -> bool:
    return len(left) == len(right) and all(
        a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("limit", [1, 0.5])
def test_the_labels_of_cola_survive_in_order(make, glue: Path, limit: float) -> None:
    data = make("cola")
    data.trainer = Trainer(logger=False, limit_val_batches=limit)
    file = pq.read_table(glue / "cola" / "validation.parquet")
    (loader,) = data.val_dataloader()
    batches = list(loader)
    assert data.dev_sizes == {"validation": len(file)}
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == file["label"].to_pylist()
    assert torch.cat([batch["idx"] for batch in batches]).tolist() == file["idx"].to_pylist()
    texts = [
        text for batch in batches for text in data.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    ]
    plain = data.tokenizer.batch_decode(
        data.tokenizer(file["sentence"].to_pylist())["input_ids"], skip_special_tokens=True
    )
    assert texts == plain


def test_a_whole_dev_split_comes_longest_rows_first(make, glue: Path) -> None:
    data = make("cola")
    file = pq.read_table(glue / "cola" / "validation.parquet")
    (loader,) = data.val_dataloader()
    batches = list(loader)
    idx = torch.cat([batch["idx"] for batch in batches]).tolist()
    assert sorted(idx) == file["idx"].to_pylist()
    label_of = dict(zip(file["idx"].to_pylist(), file["label"].to_pylist(), strict=True))
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == [label_of[number] for number in idx]
    lengths = torch.cat([batch["attention_mask"].sum(1) for batch in batches]).tolist()
    assert lengths == sorted(lengths, reverse=True) != sorted(lengths)


def test_a_row_without_a_token_is_refused_before_training(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """The text is not empty, but it is when the tokenizer has normalised it, and this one adds no special tokens."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
    for split, last in (("train", "good"), ("validation", "\u200b")):
        (tmp_path / f"{split}.csv").write_text(f"text,label\nbad,0\n{last},1\n")
    task = custom_task(text_columns=("text",), labels=("0", "1"))
    data = TextDataModule(task, tokenizer, path=tmp_path, cache_dir=tmp_path / "cache", max_length=16)
    for _ in ("tokenised", "from the cache"):
        with pytest.raises(DataError, match=r"validation.csv, idx 1: .* makes no token of '\\u200b'; remove the row"):
            data.setup()


@pytest.mark.parametrize(("padding", "stays"), [("none", {"lengths"}), ("longest", set())])
def test_the_lengths_of_texts_stay_where_they_can_be_read_without_waiting(make, padding: str, stays: set[str]) -> None:
    data = make("cola", padding=padding)
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.keys() == batch.keys()
    assert {name for name, values in moved.items() if values.device.type == "cpu"} == stays
    assert all(moved[name].equal(batch[name]) for name in stays)


def test_mnli_has_both_dev_splits_in_order(make, glue: Path) -> None:
    matched, mismatched = (rows_of(glue, "mnli", f"validation_{name}") for name in ("matched", "mismatched"))
    data = make("mnli", train_rows=50)
    assert data.dev_sizes == {"validation_matched": matched, "validation_mismatched": mismatched}
    assert list(data.dev_sizes) == ["validation_matched", "validation_mismatched"]
    assert [len(loader.dataset) for loader in data.val_dataloader()] == [matched, mismatched]
    assert data.train_size == 50


def test_batches_have_the_dtypes_of_the_contract(make) -> None:
    classes = next(iter(make("rte").train_dataloader()))
    assert set(classes) == {"input_ids", "attention_mask", "token_type_ids", "labels", "idx"}
    assert {values.dtype for values in classes.values()} == {torch.int64}
    values = next(iter(make("stsb", batch_size=8).train_dataloader()))
    assert values["labels"].dtype == torch.float32
    assert values["labels"].shape == values["idx"].shape == (8,)


@pytest.mark.parametrize("seed", [0, 3])
def test_training_batches_follow_the_seeded_order(make, glue: Path, seed: int) -> None:
    data, rows = make("rte", seed=seed), rows_of(glue, "rte", "train")
    batches = list(data.train_dataloader())
    order = epoch_order(rows, seed, 0)
    idx = torch.tensor(pq.read_table(glue / "rte" / "train.parquet")["idx"].to_pylist())
    assert torch.cat([batch["idx"] for batch in batches]).equal(idx[order])
    assert len(batches[-1]["idx"]) == rows % 32 > 0


def test_batches_do_not_depend_on_the_number_of_workers(make) -> None:
    here = make("rte", train_rows=200).train_dataloader()
    there = make("rte", train_rows=200, num_workers=2).train_dataloader()
    for epoch in (0, 1):
        for loader in (here, there):
            loader.sampler.set_epoch(epoch)
        assert same(list(here), list(there))
    here.sampler.set_epoch(0)
    assert not same(list(here), list(there))


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
        self.seen[-1].extend(batch["idx"].tolist())
        return self.weight.square()

    def validation_step(self, batch: dict[str, torch.Tensor], number: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*You requested to overfit")
@pytest.mark.parametrize("overfit", [0.0, 2])
def test_lightning_shuffles_each_epoch_anew_but_not_when_overfitting(
    make, glue: Path, tmp_path: Path, overfit: float
) -> None:
    data, module = make("wnli"), Recorder()
    Trainer(
        max_epochs=2,
        overfit_batches=overfit,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(module, datamodule=data)
    if overfit:
        assert module.seen == [list(range(64))] * 2
    else:
        rows = rows_of(glue, "wnli", "train")
        assert module.seen == [epoch_order(rows, 0, epoch).tolist() for epoch in (0, 1)]


def test_a_subset_is_that_of_the_seed_and_enters_the_fingerprint(make, glue: Path) -> None:
    whole, subset, other = make("rte"), make("rte", train_rows=100), make("rte", train_rows=100, seed=1)
    assert len({whole.fingerprint, subset.fingerprint, other.fingerprint}) == 3
    assert make("rte", seed=1).fingerprint == whole.fingerprint
    assert make("rte", train_rows=whole.train_size).fingerprint == whole.fingerprint
    rows = sorted(torch.cat([batch["idx"] for batch in subset.train_dataloader()]).tolist())
    idx = pq.read_table(glue / "rte" / "train.parquet")["idx"].to_pylist()
    assert rows == [idx[row] for row in random_subset(len(idx), 100, 0).tolist()]


def test_what_a_subset_was_drawn_from_is_the_same_for_every_seed(make, glue: Path) -> None:
    facts = [make("rte", **settings).facts for settings in ({}, {"train_rows": 100}, {"train_rows": 100, "seed": 1})]
    whole = facts[0]
    assert [found["drawn_from"] for found in facts] == [whole["fingerprint"]] * 3
    assert [found["examples"] for found in facts] == [whole["examples"]] * 3
    assert [found["rows"]["train"] for found in facts] == [rows_of(glue, "rte", "train"), 100, 100]
    held_out = make("rte", holdout=0.1, train_rows=100).facts
    assert held_out["drawn_from"] == make("rte", holdout=0.1).fingerprint != whole["drawn_from"]
    assert list(held_out["examples"]) == ["held_out"]


def test_the_same_data_in_another_format_is_the_same_data(make, glue: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = pq.read_table(glue / "wnli" / f"{split}.parquet").to_pylist()
        lines = [f"{row['label']}\t{row['sentence1']}\t{row['sentence2']}" for row in rows]
        (tmp_path / f"{split}.tsv").write_text("\n".join(["label\tsentence1\tsentence2", *lines]), encoding="utf-8")
    assert make("wnli", path=tmp_path).fingerprint == make("wnli").fingerprint


def test_the_second_module_reads_the_cache(
    tokenizer: PreTrainedTokenizerBase, minilm_folder: Path, glue: Path, tmp_path: Path
) -> None:
    first = TextDataModule(TASKS["wnli"], tokenizer, path=glue, cache_dir=tmp_path)
    first.prepare_data()
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "tokens").iterdir()}
    assert len(stamps) == 2
    second = TextDataModule(TASKS["wnli"], AutoTokenizer.from_pretrained(minilm_folder), path=glue, cache_dir=tmp_path)
    second.setup("fit")
    second.setup("validate")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "tokens").iterdir()} == stamps
    assert same(list(first.train_dataloader()), list(second.train_dataloader()))
    TextDataModule(TASKS["wnli"], tokenizer, path=glue, cache_dir=tmp_path, max_length=16).setup()
    assert len(list((tmp_path / "tokens").iterdir())) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"num_workers": -1}, "num_workers=-1 must be 0 or more"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
        ({"max_length": 600}, "data.max_length=600 does not fit"),
        ({"max_length": 300, "max_positions": 256}, "give 5 to 256 tokens"),
        ({"train_rows": 5000}, "train_rows=5000: the training split has {rows} rows"),
        ({"path": "absent"}, "absent: no such file or folder"),
    ],
)
def test_wrong_settings_are_one_clear_line(make, glue: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.format(rows=rows_of(glue, "rte", "train"))):
        make("rte", **settings)


def test_a_subset_of_one_class_is_refused(make) -> None:
    with pytest.raises(DataError, match=r"all 1 training rows have the label .* or raise train_rows"):
        make("rte", train_rows=1)


@pytest.mark.parametrize("name", ["toy_sentiment", "toy_similarity"])
def test_the_embedded_data_runs_through(make, name: str) -> None:
    data = make(name, path=None, train_rows=64)
    batch = next(iter(data.train_dataloader()))
    assert batch["labels"].dtype == (torch.float32 if TASKS[name].is_regression else torch.int64)
    assert data.fingerprint == make(name, path=None, train_rows=64).fingerprint


def test_rows_held_out_are_measured_on_and_never_trained_on(make, glue: Path) -> None:
    whole, data = make("rte"), make("rte", holdout=0.1)
    assert list(data.dev_sizes) == ["held_out"]
    rows = rows_of(glue, "rte", "train")
    assert (data.train_size, data.dev_sizes["held_out"]) == (rows - round(0.1 * rows), round(0.1 * rows))
    (loader,) = data.val_dataloader()
    held_out = torch.cat([batch["idx"] for batch in loader]).tolist()
    trained = torch.cat([batch["idx"] for batch in data.train_dataloader()]).tolist()
    everything = torch.cat([batch["idx"] for batch in whole.train_dataloader()]).tolist()
    assert sorted(held_out + trained) == sorted(everything)
    assert data.fingerprint != whole.fingerprint


def test_the_same_rows_are_held_out_for_every_seed_and_subset(make) -> None:
    def rows(loader) -> set[int]:
        return set(torch.cat([batch["idx"] for batch in loader]).tolist())

    first, second = make("rte", holdout=0.1, train_rows=100), make("rte", holdout=0.1, train_rows=100, seed=1)
    assert rows(first.val_dataloader()[0]) == rows(second.val_dataloader()[0])
    assert rows(first.train_dataloader()) != rows(second.train_dataloader())
    assert not rows(first.train_dataloader()) & rows(first.val_dataloader()[0])


@pytest.mark.parametrize("share", [1e-5, 0.9999])
def test_a_share_that_leaves_one_side_without_rows_is_refused(make, share: float) -> None:
    with pytest.raises(ValueError, match="at least one must be on each side"):
        make("rte", holdout=share)


def test_no_source_has_a_split_of_the_name_of_rows_held_out() -> None:
    with pytest.raises(ValueError, match="held_out"):
        custom_task(text_columns=["text"], labels=["no", "yes"], metrics=["accuracy"], dev_splits=["held_out"])
