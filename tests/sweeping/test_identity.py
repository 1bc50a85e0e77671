"""A job's identity changes with what determines the result, and with nothing else."""

import pytest

from lightning_lora.sweeping import determines_result, job_id

CONFIG = {
    "rank": 8,
    "seed": 0,
    "model": {"name": "tiny", "revision": None},
    "data": {"task": "cola", "path": "a", "cache_dir": None, "num_workers": 0, "max_length": 128},
    "trainer": {"precision": "32-true", "devices": 1, "progress_bar": True},
    "logger": {"wandb": "offline"},
    "merge": {"save": True},
}


def identity(config: dict[str, object] = CONFIG, **other: str) -> str:
    facts = {"base_fingerprint": "b", "data_fingerprint": "d", "code_version": "1", **other}
    return job_id(config, **facts)


LORA = {"method": "lora", "roles": ["query", "key"], "layers": "0-1", "dropout": 0.0}


def with_lora(**lora: object) -> dict[str, object]:
    return {**CONFIG, "lora": {**LORA, **lora}, "optim": {"lora_plus_ratio": 1.0, "eps": 1e-8}}


def changed(group: str, key: str, value: object) -> dict[str, object]:
    return {**CONFIG, group: {**CONFIG[group], key: value}}  # type: ignore[dict-item]


def test_it_is_stable_over_key_order_and_runs() -> None:
    assert identity(dict(reversed(CONFIG.items()))) == identity()
    assert identity() == "8011460087893e35"


@pytest.mark.parametrize(
    "other",
    [
        changed("model", "name", "elsewhere"),
        changed("data", "path", "elsewhere"),
        changed("data", "num_workers", 2),
        {**CONFIG, "trainer": {"precision": "32-true", "progress_bar": True}},  # no word of one device
        changed("trainer", "devices", [3]),
        changed("trainer", "num_nodes", 1),
        changed("trainer", "accelerator", "gpu"),
        changed("trainer", "checkpoint_every", 10),
        changed("trainer", "cuda_graphs", False),
        {**CONFIG, "resume": "runs/a", "resume_anyway": True},
        changed("logger", "wandb", "online"),
        changed("merge", "save", False),
    ],
)
def test_places_logging_and_the_kind_of_hardware_do_not_count(other: dict[str, object]) -> None:
    assert identity(other) == identity()


def test_what_determines_the_result_counts() -> None:
    others = [
        identity(changed("trainer", "cuda_graphs", True)),
        identity({**CONFIG, "rank": 4}),
        identity({**CONFIG, "seed": 1}),
        identity(changed("trainer", "precision", "bf16-mixed")),
        identity(changed("trainer", "devices", 4)),
        identity(changed("trainer", "num_nodes", 2)),
        identity(changed("data", "max_length", 64)),
        identity(base_fingerprint="x"),
        identity(data_fingerprint="x"),
        identity(code_version="2"),
    ]
    assert len({identity(), *others}) == 11
    assert identity(changed("trainer", "devices", [0, 1, 2, 5])) in others, "four devices, whichever they are"


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        ("rank", True),
        ("lora", True),
        ("lora.layers", True),
        ("trainer", True),
        ("trainer.max_steps", True),
        ("trainer.devices", True),
        ("trainer.accelerator", False),
        ("data.num_workers", False),
        ("logger", False),
        ("logger.name", False),
        ("resume", False),
        ("hydra.run.dir", True),
    ],
)
def test_keys_say_whether_they_count(key: str, counts: bool) -> None:
    assert determines_result(key) == counts


@pytest.mark.parametrize("key", ["rank", "alpha", "lora.roles", "lora.scaling", "optim.lora_plus_ratio", "logger.name"])
def test_settings_of_adapters_do_not_count_for_a_baseline(key: str) -> None:
    assert not determines_result(key, "full")
    assert all(determines_result(other, "full") for other in ("lora", "lora.method", "optim.eps", "lr"))


def test_a_baseline_is_the_same_job_whatever_its_adapters_would_be() -> None:
    full = with_lora(method="full")
    optim = {"lora_plus_ratio": 4.0, "eps": 1e-8}
    others = [full | {"rank": 4}, with_lora(method="full", roles=[]), full | {"optim": optim}]
    assert {identity(other) for other in others} == {identity(full)}
    assert identity(full) != identity(with_lora(method="bitfit")) != identity(with_lora())
    assert identity(full | {"optim": {**optim, "eps": 1e-6}}) != identity(full)


def test_the_order_of_roles_and_the_spelling_of_blocks_do_not_count() -> None:
    assert identity(with_lora(roles=["key", "query"], layers=[1, 0])) == identity(with_lora()) == "49f393c7abf16cf7"
    assert identity(with_lora(roles=["query", "value"])) != identity(with_lora())
