"""The real W&B, offline: what its own file says afterwards, and what happens when it fails."""

import json
import logging
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from tiny_task import HEAD, TinyData, tiny_bert, tiny_module, tiny_trainer
from train_command import WORDS, to_the_end
from wandb.proto.wandb_internal_pb2 import Record

from lightning_lora.inject import count_parameters
from lightning_lora.reporting import records_below
from lightning_lora.training import NonFiniteError
from lightning_lora.training.callbacks import TrainableParameters, TrainingLog
from lightning_lora.training.wandb_logger import GuardedWandbLogger, resolve_mode

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

BLOCK = 32768


def records(directory: Path) -> Iterator[Record]:
    """What W&B wrote: a LevelDB log, 7 bytes of header and then blocks of chunks (checksum, length, kind, body).

    W&B's own process writes the file, and may still be about to when `finish` returns; `teardown` waits for it, as the
    end of a Python program does.
    """
    wandb.teardown()
    (path,) = directory.glob("run-*.wandb")
    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + 7])
        body = data[at + 7 : at + 7 + length]
        at += 7 + length
        assert checksum == zlib.crc32(bytes([kind]) + body)
        parts += body
        if kind in (1, 4):  # whole, or the last of several
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def folder_of(logger: GuardedWandbLogger) -> Path:
    """Where W&B keeps the logger's run."""
    (folder,) = (Path(logger.save_dir) / "wandb").glob(f"*run-*-{logger.version}")
    return folder


def history(directory: Path) -> dict[str, list[float]]:
    """Every value that was logged, by name, in order."""
    found: dict[str, list[float]] = {}
    for record in records(directory):
        for item in record.history.item if record.WhichOneof("record_type") == "history" else ():
            found.setdefault("/".join(item.nested_key) or item.key, []).append(json.loads(item.value_json))
    return found


def exit_codes(directory: Path) -> list[int]:
    return [r.exit.exit_code for r in records(directory) if r.WhichOneof("record_type") == "exit"]


def settings_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records(directory):
        kind = record.WhichOneof("record_type")
        config = record.run.config if kind == "run" else record.config if kind == "config" else None
        for item in config.update if config is not None else ():
            found["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return found


def train(folder: Path, logger: GuardedWandbLogger, **settings: Any) -> Any:
    model = tiny_bert()
    callbacks = [TrainableParameters(count_parameters(model, HEAD).as_dict()), TrainingLog()]
    module = tiny_module(model, epochs=2)
    trainer = tiny_trainer(folder, max_epochs=2, logger=logger, log_every_n_steps=1, callbacks=callbacks, **settings)
    trainer.fit(module, datamodule=TinyData())
    return module


def test_two_jobs_of_one_process_have_a_file_and_an_id_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs: dict[int, tuple[Any, Path]] = {}
    ids = set()
    for exit_code in (0, 3):
        logger = GuardedWandbLogger(tmp_path / str(exit_code), mode="offline", project="tests", group="g", tags=["t"])
        logger.log_hyperparams({"rank": 8 + exit_code, "lora": {"roles": ["query", "value"]}})
        jobs[exit_code] = train(tmp_path, logger), folder_of(logger)
        ids.add(logger.version)
        logger.close(exit_code)
    assert len(ids - {None}) == 2
    assert wandb.run is None, "no run is left for the next job to fall into"
    for exit_code, (module, directory) in jobs.items():
        values = history(directory)
        total = sum(p.numel() for p in module.model.parameters())
        trainable = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
        assert values["params/trainable_percent"] == [pytest.approx(100 * trainable / total)]
        assert len(values["dev/score"]) == 2
        assert values["dev/score"][-1] == pytest.approx(module.dev_metrics["validation"]["f1"])
        assert len(values["train/loss"]) == len(values["lr"]) == 8
        assert settings_of(directory)["rank"] == 8 + exit_code
        assert exit_codes(directory) == [exit_code]
    printed = capfd.readouterr()
    assert "wandb" not in printed.out + printed.err, "no banner"


def test_a_resumed_run_goes_on_under_its_id_and_a_new_one_has_its_own(tmp_path: Path) -> None:
    versions = []
    for resume in (True, True, False):
        logger = GuardedWandbLogger(tmp_path, mode="offline", project="tests", resume=resume)
        logger.log_metrics({"x": 1.0}, 0)
        versions.append(logger.version)
        logger.close(0)
    first, again, other = versions
    assert first is not None
    assert first == again != other


def test_a_run_that_is_never_closed_does_not_take_in_the_next(tmp_path: Path) -> None:
    loggers = [GuardedWandbLogger(tmp_path / str(i), mode="offline", project="tests") for i in range(2)]
    for value, logger in enumerate(loggers):
        logger.log_metrics({"x": float(value)}, 0)
    folders = [folder_of(logger) for logger in loggers]
    for logger in loggers:
        logger.close(0)
    assert [history(folder)["x"] for folder in folders] == [[0.0], [1.0]]


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_if_wandb_fails_there_is_one_warning_and_training_goes_on(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("the server is\non holiday")

    real = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True, console="off"))
    monkeypatch.setattr(wandb, "init" if where == "init" else "unused", fail, raising=False)
    if where != "init":
        monkeypatch.setattr(type(real), where, fail)
    logger = GuardedWandbLogger(tmp_path / "job", mode="offline", project="tests")
    with caplog.at_level(logging.WARNING, "lightning_lora"):
        module = train(tmp_path, logger)
        logger.close(0)
    monkeypatch.undo()
    real.finish()
    assert module.trainer.global_step == 8
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("lightning_lora")]
    assert messages == ["W&B failed and is off for this run; metrics.jsonl goes on. the server is"]


def test_a_wandb_that_cannot_be_imported_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # any import of it now raises
    logger = GuardedWandbLogger(tmp_path, project="tests")
    with caplog.at_level(logging.WARNING, "lightning_lora"):
        assert train(tmp_path, logger).trainer.global_step == 8
        logger.close(0)
    assert len([r for r in caplog.records if "W&B failed" in r.getMessage()]) == 1


def test_a_folder_wandb_cannot_write_to_does_not_stop_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    logger = GuardedWandbLogger(tmp_path / "file" / "job", mode="offline", project="tests")
    with caplog.at_level(logging.WARNING, "lightning_lora"):
        assert train(tmp_path, logger).trainer.global_step == 8
        logger.close(0)
    assert len([r for r in caplog.records if "W&B failed" in r.getMessage()]) == 1
    assert logger.version is None


def test_a_run_that_failed_is_finished_as_failed(tmp_path: Path) -> None:
    logger = GuardedWandbLogger(tmp_path, mode="offline", project="tests")
    module = tiny_module()
    module.get_parameter("model.classifier.bias").data.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        tiny_trainer(tmp_path, logger=logger).fit(module, datamodule=TinyData())
    logger.log_metrics({"x": 1.0}, 0)
    directory = folder_of(logger)
    logger.close(1)
    logger.log_metrics({"x": 2.0}, 1)
    assert exit_codes(directory) == [1]
    assert history(directory)["x"] == [1.0], "nothing is logged after the end"


def test_each_job_of_a_sweep_is_a_run_of_its_group_and_closed_with_the_jobs_status(tmp_path: Path) -> None:
    words = [word for word in WORDS if word != "logger=disabled"]
    sweep = ["-m", "lr=1e-3,1e30", "trainer.max_steps=2", "logger.wandb=offline", "hydra.sweep.dir=rates"]
    status, _, errors = to_the_end(*words, *sweep, cwd=tmp_path)
    assert status == 1, errors
    found = {}
    for folder, job in records_below(tmp_path / "rates").items():
        (directory,) = (folder / "wandb").glob("offline-run-*")
        (started,) = [record.run for record in records(directory) if record.WhichOneof("record_type") == "run"]
        assert (started.run_group, started.display_name) == ("rates", folder.name)
        found[job.status] = exit_codes(directory)
    assert found == {"finished": [0], "diverged": [1]}


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "0" * 40}, "online"),
        ("auto", {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_API_KEY": "0" * 40}, "offline"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
    ],
)
def test_auto_is_online_only_for_a_user_who_is_logged_in(
    mode: str, environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode(mode) == expected


def test_a_key_in_the_netrc_file_is_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    netrc.write_text("machine elsewhere.example login user password 1234\n")
    assert resolve_mode("auto") == "offline"
    netrc.write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    assert resolve_mode("auto") == "online"


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logger\.wandb='ofline' is unknown; choose one of auto, offline, online"):
        GuardedWandbLogger(tmp_path, mode="ofline")
