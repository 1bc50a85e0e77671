"""Names of folders: the same for the same job, another for any other."""

import copy
import re
from dataclasses import asdict
from typing import Any

import pytest

from lightning_lora.config import RunConfig
from lightning_lora.sweeping import job_name, sweep_name

CONFIG: dict[str, Any] = asdict(RunConfig())


def changed(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value
    return config


def test_a_name_says_what_the_job_is() -> None:
    assert re.fullmatch(r"toy_sentiment-qv-r8-s0-[0-9a-f]{10}", job_name(CONFIG))
    assert re.fullmatch(
        r"toy_sentiment-full-s3-[0-9a-f]{10}",
        job_name(changed("seed", 3) | {"lora": {**CONFIG["lora"], "method": "full"}}),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("logger.project", "other"),
        ("merge.save", True),
        ("trainer.accelerator", "cpu"),
        ("data.num_workers", 2),
        ("resume", "x"),
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_name(key: str, value: Any) -> None:
    assert job_name(changed(key, value)) == job_name(CONFIG)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 2e-3),
        ("alpha", 16.0),
        ("seed", 1),
        ("optim.eps", 1e-6),
        ("lora.dropout", 0.1),
        ("data.holdout", 0.1),
        ("trainer.devices", 4),
        ("model.name", "elsewhere"),
        ("model.revision", "main"),
        ("data.path", "elsewhere"),
    ],
)
def test_anything_else_does(key: str, value: Any) -> None:
    assert job_name(changed(key, value)) != job_name(CONFIG)


@pytest.mark.parametrize("typed", ["0-1", [0, 1], [1, 0], (0, 1)], ids=str)
def test_blocks_are_the_same_however_they_are_written(typed: Any) -> None:
    assert job_name(changed("lora.layers", typed)) == job_name(changed("lora.layers", (0, 1)))
    assert job_name(changed("lora.layers", typed)) != job_name(changed("lora.layers", (0, 2))) != job_name(CONFIG)


def test_the_order_of_settings_does_not_count() -> None:
    backwards = {key: CONFIG[key] for key in reversed(CONFIG)}
    assert list(backwards) != list(CONFIG)
    assert job_name(backwards) == job_name(CONFIG)


def test_a_wider_grid_is_the_same_sweep() -> None:
    assert sweep_name(None, ["rank", "alpha"]) == sweep_name(None, ["alpha", "rank"]) == "alpha+rank"
    assert sweep_name("layer_choice", ["lora"]) == "layer_choice"
    assert sweep_name("mine/first", []) == "mine-first"
    assert sweep_name(None, []) == "one_job"


def test_a_long_name_is_cut_and_still_its_own() -> None:
    one, other = (sweep_name(None, [*(f"optim.setting_{number}" for number in range(30)), last]) for last in "yz")
    assert one != other
    assert len(one) < 100
