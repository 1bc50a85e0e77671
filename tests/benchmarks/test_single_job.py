"""Every side runs, from the same start; and the command measures what it says, in turn, once."""

import argparse
import json
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import single_job
import torch
from glue_run import peft_model_from_the_same_start
from job_sides import GRAPHS, SIDES, Measured, loralib_model_from_the_same_start, round_frozen_linear_layers
from single_job import cases, main, one_side, parser_of_options, run_config
from torch import Tensor, nn

from lightning_lora import build
from lightning_lora.tasks import TASKS


@pytest.fixture
def glue(tmp_path: Path) -> Path:
    """Rows of SST-2's columns: 32 to train on, 16 to measure on."""
    (tmp_path / "glue" / "sst2").mkdir(parents=True)
    for split, count in (("train", 32), ("validation", 16)):
        texts = [f"the film is {'good' if row % 2 else 'bad'} {'and long ' * (row % 5)}" for row in range(count)]
        columns = {"sentence": texts, "label": [row % 2 for row in range(count)], "idx": list(range(count))}
        pq.write_table(pa.table(columns), tmp_path / "glue" / "sst2" / f"{split}.parquet")
    return tmp_path / "glue"


def words(glue: Path, *more: str) -> list[str]:
    place = ["--model", "tiny", "--data", str(glue), "--out", str(glue.parent / "out")]
    return [*place, "--tasks", "sst2", "--batch-size", "8", *more]


def case(glue: Path) -> argparse.Namespace:
    (found,) = cases(parser_of_options().parse_args(words(glue, "--lora", "qv", "--dropout", "0.1")))
    return found


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
@pytest.mark.parametrize("side", [side for side in SIDES if side != GRAPHS])
def test_every_side_runs(side: str, glue: Path) -> None:
    found = one_side(side, run_config(case(glue), seed=0))
    assert found.seconds > 0
    assert found.peak_mib > 100, "a process with torch in it"
    assert found.rise_mib < found.peak_mib / 2, "most of which was there before"
    assert found.score in [correct / 16 for correct in range(17)]


def starts(model: nn.Module, name_of_a: str) -> list[Tensor]:
    return [p for name, p in sorted(model.named_parameters()) if name_of_a in name or "classifier" in name]


def test_the_peers_start_where_a_run_starts(glue: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        config = run_config(case(glue), seed)
        ours = starts(build.assemble(config, tmp_path).module.model, "adapters.default.A")
        peers = [
            starts(loralib_model_from_the_same_start(config, TASKS["sst2"]).model, "lora_A"),
            [p for p in starts(peft_model_from_the_same_start(config, TASKS["sst2"])[0], "lora_A") if p.requires_grad],
        ]
        for peer in peers:
            assert len(ours) == len(peer) == 10, "A on query and value of four blocks; weight and bias of the head"
            assert all(torch.equal(one, other) for one, other in zip(ours, peer, strict=True))
    other = starts(loralib_model_from_the_same_start(run_config(case(glue), 0), TASKS["sst2"]).model, "lora_A")
    assert not any(torch.equal(one, two) for one, two in zip(ours, other, strict=True) if one.ndim > 1)


def test_loralib_trains_its_factors_and_the_head_alone(glue: Path) -> None:
    backbone = loralib_model_from_the_same_start(run_config(case(glue), 0), TASKS["sst2"])
    trained = [name for name, p in backbone.model.named_parameters() if p.requires_grad]
    assert sum("lora_" in name for name in trained) == 16
    assert {name for name in trained if "lora_" not in name} == set(backbone.new_parameters)


def test_every_task_is_cut_where_training_cuts_it(glue: Path) -> None:
    options = parser_of_options().parse_args(["--model", "tiny", "--data", str(glue)])
    found = cases(options)
    assert len(found) == 5 * 2 * 2
    lengths = {case.task: run_config(case, 0).data.max_length for case in found}
    assert lengths == {"cola": 64, "sst2": 128, "stsb": 128, "mrpc": 128, "rte": 256}
    assert {run_config(case, 0).data.train_rows for case in found} == {None}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int, str]]:
    """What was measured in turn (dropout, seed, side), in the place of processes."""
    calls = []

    def instead(side: str, config: single_job.RunConfig) -> Measured:
        calls.append((config.lora.dropout, config.seed, side))
        return Measured(seconds=2.0, peak_mib=9.0, rise_mib=3.0, score=0.5)

    monkeypatch.setattr(single_job, "in_its_own_process", instead)
    return calls


def command(monkeypatch: pytest.MonkeyPatch, glue: Path, *more: str) -> None:
    monkeypatch.setattr(
        "sys.argv", ["single_job.py", *words(glue, "--lora", "qv", "--sides", "here", "PEFT + Trainer", *more)]
    )
    main()


def test_sides_take_turns_and_what_is_done_is_done(
    glue: Path, measured: list[tuple[float, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(monkeypatch, glue, "--rounds", "1")
    first = [(dropout, 0, side) for dropout in (0.0, 0.1) for side in ("here", "PEFT + Trainer")]
    assert measured == first
    command(monkeypatch, glue, "--rounds", "2")
    assert measured[4:] == [(dropout, 1, side) for dropout in (0.0, 0.1) for side in ("PEFT + Trainer", "here")]
    record = json.loads((glue.parent / "out" / "single_job_sst2_qv_dropout0.1.json").read_text())
    assert len(record["rows"]) == 4
    assert record["rows"][0]["provenance"]["sources"]
    assert record["rows"][0]["rise_mib"] == 3.0
    assert "--dropout 0.1 --lora qv --sides here 'PEFT + Trainer' --rounds 2 --device cpu" in record["command"]
    assert record["settings"]["max_length"] == 128


def test_a_record_of_other_code_is_refused(
    glue: Path,
    measured: list[tuple[float, int, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(monkeypatch, glue, "--rounds", "1")
    file = glue.parent / "out" / "single_job_sst2_qv_dropout0.json"
    record = json.loads(file.read_text())
    record["rows"][1]["provenance"]["sources"] = "other"
    file.write_text(json.dumps(record))
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, glue, "--rounds", "2")
    assert ended.value.code == 2
    assert "another sources (other;" in capsys.readouterr().err
    assert len(measured) == 4, "refused before anything was measured"
    assert json.loads(file.read_text()) == record


def test_code_that_changes_meanwhile_ends_the_measuring(
    glue: Path, measured: list[tuple[float, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = single_job.provenance()
    monkeypatch.setattr(single_job, "provenance", lambda _device: made_by | {"sources": str(len(measured))})
    with pytest.raises(SystemExit):
        command(monkeypatch, glue, "--rounds", "1", "--dropout", "0")
    assert len(measured) == 1


def test_a_side_that_fails_costs_its_own_row_only(
    glue: Path,
    measured: list[tuple[float, int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = single_job.in_its_own_process

    def killed(side: str, config: single_job.RunConfig) -> Measured:
        if side == "PEFT + Trainer":
            raise BrokenProcessPool("terminated abruptly")
        return works(side, config)

    monkeypatch.setattr(single_job, "in_its_own_process", killed)
    with pytest.raises(SystemExit, match=r"single_job_sst2_qv_dropout0, round 0, PEFT \+ Trainer: BrokenProcessPool"):
        command(monkeypatch, glue, "--rounds", "2", "--dropout", "0")
    assert measured == [(0.0, 0, "here"), (0.0, 1, "here")]
    monkeypatch.setattr(single_job, "in_its_own_process", works)
    command(monkeypatch, glue, "--rounds", "1", "--dropout", "0")
    assert measured[2:] == [(0.0, 0, "PEFT + Trainer")], "what failed, and nothing again"
    record = json.loads((glue.parent / "out" / "single_job_sst2_qv_dropout0.json").read_text())
    assert "--rounds 2" in record["command"], "of all its rows"
    assert all(datetime.fromisoformat(row["began"]).tzinfo for row in record["rows"])


def test_a_base_in_bf16_is_of_frozen_linear_layers_only(glue: Path) -> None:
    model, _ = peft_model_from_the_same_start(run_config(case(glue), 0), TASKS["sst2"])
    round_frozen_linear_layers(model)
    rounded = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
    used = {name for name in rounded if "original_module" not in name}  # PEFT's copies of what trains, as it was
    assert len(used) == 4 * 6 * 2 + 2, "weights and biases of four blocks' six layers and of the pooler, no norms"
    assert not any(p.requires_grad for p in model.parameters() if p.dtype == torch.bfloat16)


def test_graphs_are_for_a_gpu(glue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(monkeypatch, glue, GRAPHS)
    assert "CUDA graphs need --device gpu" in capsys.readouterr().err
