"""Which settings tell options apart, and what options are called."""

from dataclasses import Field, fields
from typing import Any

import pytest
from synthetic_runs import configuration

from lightning_lora.config import TrainerConfig
from lightning_lora.reporting import RunRecord
from lightning_lora.reporting.options import (
    Settings,
    axes_of,
    each_at_its_own,
    following_what_is_trained,
    label_of,
    settings_of,
)
from lightning_lora.sweeping import determines_result


def settings(lora: str = "qv", *, fields: dict[str, Any] | None = None, **changed: Any) -> Settings:
    known: dict[str, Any] = {
        "status": "finished",
        "precision": "32-true",
        "versions": {"lightning-lora": "0.1.0"},
        "data": {"fingerprint": "0123456789"},
    }
    config = configuration(lora, **changed)
    record = RunRecord(job_id="ab", config=config, task="toy_sentiment", metric="accuracy", **(known | (fields or {})))
    return settings_of(record, determines_result)


def labels(*runs: Settings) -> list[str]:
    return [label_of(run, axes_of(runs)) for run in runs]


@pytest.mark.parametrize("entry", fields(TrainerConfig), ids=lambda entry: str(entry.name))
def test_1_and_one_point_zero_differ_where_the_schema_has_batches_or_a_share_of_them(entry: Field[Any]) -> None:
    one, whole = (settings(**{f"trainer__{entry.name}": value}) for value in (1, 1.0))
    assert (one != whole) == ("or a fraction of all" in entry.metadata["setting"].allowed)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([{"rank": 4}, {"rank": 8}], ["rank 4", "rank 8"]),
        ([{"lora": "q"}, {"lora": "all"}, {"lora": "full"}], ["q", "all", "full"]),
        ([{"lora": "q", "rank": 4}, {"lora": "all", "rank": 8}], ["q, rank 4", "all, rank 8"]),
        ([{"rank": 8, "alpha": 16.0}, {"rank": 4, "alpha": None}], ["rank 8", "rank 4"]),
        ([{"rank": 8, "alpha": 8.0}, {"rank": 8, "alpha": None}], ["alpha 8", "alpha 16"]),
        ([{"rank": 8}, {"lora": "head", "rank": 4}], ["qv", "head"]),
        ([{"rank": 8}, {"rank": 4}, {"lora": "head"}], ["qv, rank 8", "qv, rank 4", "head"]),
        ([{"lora__dropout": 0.1}, {"lora__dropout": 0.0}], ["dropout 0.1", "dropout 0"]),
        ([{"trainer__limit_val_batches": 1}, {}], ["limit_val_batches 1", "limit_val_batches 1.0"]),
        ([{"trainer__overfit_batches": 0}, {"trainer__overfit_batches": 0.0}], ["qv", "qv"]),
        ([{"lora__layers": [0, 1]}, {}], ["layers [0,1]", "layers null"]),
        ([{"lora__modules": ["a", "b"]}, {"lora__modules": ["a"]}], ["[a,b]", "[a]"]),
        ([{"lora__roles": ["up"]}, {"lora__roles": ["down"]}, {"lora": "mlp"}], ["up", "down", "mlp"]),
        ([{"seed": 1}, {"seed": 2}], ["qv", "qv"]),
        ([{"trainer__devices": [0]}, {"trainer__devices": [1]}], ["qv", "qv"]),
        ([{"trainer__devices": [0, 1]}, {}], ["devices 2", "devices 1"]),
        ([{"model__name": "here"}, {"trainer__accelerator": "cpu", "logger__group": "g"}], ["qv", "qv"]),
        ([{"fields": {"precision": "bf16-frozen"}}, {}], ["precision bf16-frozen", "precision 32-true"]),
        ([{"fields": {"data": {"fingerprint": "9876543210"}}}, {}], ["data 987654", "data 012345"]),
        ([{"fields": {"versions": {"lightning-lora": "0.2.0"}}}, {}], ["version 0.2.0", "version 0.1.0"]),
    ],
)
def test_labels_say_what_varies_and_no_more(runs: list[dict[str, Any]], expected: list[str]) -> None:
    assert labels(*(settings(**run) for run in runs)) == expected


def test_options_that_first_differ_far_along_are_two() -> None:
    modules = [f"encoder.layer.{block}.attention.self.query" for block in range(4)]
    one, other = labels(settings(lora__modules=modules), settings(lora__modules=[*modules[:3], "pooler.dense"]))
    assert one[:57] == other[:57], "the control: messages cut values there"
    assert (one, other) == (f"[{','.join(modules)}]", f"[{','.join(modules[:3])},pooler.dense]")


def test_a_random_subset_is_another_for_every_seed_and_no_setting() -> None:
    of_seeds = [
        settings(seed=seed, data__train_rows=100, fields={"data": {"fingerprint": f"{seed}" * 8}}) for seed in (1, 2)
    ]
    assert axes_of(of_seeds) == ()


def test_subsets_of_different_data_are_different_options() -> None:
    """Also beside older records, which say what a subset was drawn from only where it is all there is."""
    drawn = [
        settings(
            seed=seed, data__train_rows=rows, fields={"data": {"fingerprint": f"{seed}" * 8, "drawn_from": source}}
        )
        for seed, rows, source in ((1, 100, "aaaaaaaa"), (2, 100, "aaaaaaaa"), (1, 100, "bbbbbbbb"))
    ]
    assert labels(*drawn) == ["data aaaaaa", "data aaaaaa", "data bbbbbb"]
    older, newer = ({"fingerprint": "cccccccc"}, {"fingerprint": "cccccccc", "drawn_from": "cccccccc"})
    assert axes_of([settings(fields={"data": data}) for data in (older, newer)]) == ()


def test_a_warm_start_is_what_it_was_from_and_not_where_it_lay() -> None:
    """Where no record told its settings it is the adapter, and in older records the folder."""
    known = {"run": "a", "task": "mnli", "fingerprint": "ffffffff", "job_id": "1", "settings": "55555555"}
    moved = known | {"run": "b", "fingerprint": "eeeeeeee", "job_id": "2"}
    unknown = moved | {"job_id": None, "settings": None}
    older = {name: known[name] for name in ("run", "task", "fingerprint")}
    runs = [settings(warm_start=start["run"], fields={"base": {"warm_start": start}}) for start in (known, moved)]
    assert axes_of(runs) == ()
    alone, folder = (
        settings(warm_start=start["run"], fields={"base": {"warm_start": start}}) for start in (unknown, older)
    )
    assert labels(runs[0], alone) == ["settings 555555", "settings eeeeee"]
    assert label_of(folder, ["warm_start"]) == "warm_start a"


def test_an_unfinished_run_has_the_precision_that_auto_is() -> None:
    running = settings(fields={"status": "running", "precision": "bf16-frozen"})
    exact = settings(trainer__precision="32-true")
    assert labels(running, exact, settings()) == ["precision bf16-frozen", "precision 32-true", "precision 32-true"]


def test_two_settings_of_one_name_are_called_by_their_full_names() -> None:
    runs = [settings(trainer__max_steps=1, fields={"precision": p}) | {"optim.max_steps": p} for p in ("a", "b")]
    runs[0]["trainer.max_steps"] = 2
    assert label_of(runs[0], ("optim.max_steps", "trainer.max_steps")) == "optim.max_steps a, trainer.max_steps 2"


def test_what_a_reader_expects_first_stands_first() -> None:
    runs = [settings("q", lr=1e-3, rank=4, epochs=1, alpha=1.0), settings("all", lr=1e-4, rank=8, epochs=2, alpha=2.0)]
    assert axes_of(runs) == ("lora", "rank", "alpha", "lr", "epochs")


def test_a_tuned_learning_rate_is_told_from_one_that_is_swept() -> None:
    tuned = [settings("q", lr=1e-3), settings("all", lr=1e-4)]
    swept = [*tuned, settings("all", lr=1e-3)]
    alone = [settings("q", lr=1e-3), settings("q", lr=1e-4)]
    assert labels(*tuned) == ["q, lr 0.001", "all, lr 0.0001"]
    assert [each_at_its_own("lr", runs, axes_of(runs)) for runs in (tuned, swept, alone)] == [True, False, False]


def test_what_follows_what_is_trained_is_not_size_and_is_the_same_for_all_its_runs() -> None:
    tuned = [settings("q", lr=1e-3, rank=4), settings("all", lr=1e-4, rank=8), settings("all", lr=1e-4, rank=8, seed=1)]
    assert following_what_is_trained(tuned, axes_of(tuned)) == {"lr": {"q": 1e-3, "all": 1e-4}}
    swept = [*tuned, settings("all", lr=1e-3, rank=8)]
    assert following_what_is_trained(swept, axes_of(swept)) == {}
    of_ranks = [settings(rank=4, lr=1e-3), settings(rank=8, lr=1e-4)]
    assert following_what_is_trained(of_ranks, axes_of(of_ranks)) == {}
    by_autocast = {"status": "finished", "precision": "bf16-mixed"}
    mixed = [settings("full", fields=by_autocast), settings(), settings(fields={"status": "running"})]
    assert following_what_is_trained(mixed, axes_of(mixed)) == {"precision": {"full": "bf16-mixed", "qv": "32-true"}}
