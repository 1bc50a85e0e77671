"""The experiments of the document's claims: no measurement is lost, and nothing is said of what was not tried."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from synthetic_runs import configuration, write_run

from experiments.theory import finding, page, trained
from experiments.theory.environment import location
from experiments.theory.finding import Finding, carry_out
from experiments.theory.hyperparameters import run as hyperparameters
from experiments.theory.intrinsic_dimension import on_minilm
from experiments.theory.intrinsic_dimension import run as intrinsic
from experiments.theory.lora_plus import run as lora_plus
from experiments.theory.lora_plus.study import contrasts
from experiments.theory.scaling import run as scaling
from experiments.theory.scaling.first_step import gradient_at, relative
from experiments.theory.subspaces import run as subspaces
from lightning_lora.lora import LoraSpec
from lightning_lora.reporting.inference import Runs, difference

HERE = Path(page.__file__).parent


def recorded(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return facts


def never(*_: object, **__: object) -> NoReturn:
    pytest.fail("measured, and should not have")


def one_finding(data: dict[str, Any]) -> list[Finding]:
    return [Finding("1.1", "title", "claim", "holds as", "holds", f"{data['number']}")]


def refuted(data: dict[str, Any]) -> list[Finding]:
    raise AssertionError("not as was expected")


Measure = Callable[[bool], dict[str, Any]]


def carried_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure, findings: Any, *options: str
) -> dict[str, Any]:
    """The record that the command leaves."""
    monkeypatch.setattr(sys, "argv", ["run.py", *options])
    carry_out(folder, measure, findings)
    facts: dict[str, Any] = json.loads((folder / finding.RESULTS).read_text(encoding="utf-8"))
    return facts


def test_a_judgement_that_fails_costs_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="not as was expected"):
        carried_out(tmp_path, monkeypatch, lambda quick: {"number": 7}, refuted)
    left = json.loads((tmp_path / finding.RESULTS).read_text())
    assert (left["data"], left["findings"]) == ({"number": 7}, [])
    assert {"command", "machine", "versions", "commit", "seconds"} <= set(left)
    judged = carried_out(tmp_path, monkeypatch, never, one_finding, "--judge")
    assert [one["measured"] for one in judged["findings"]] == ["7"]
    assert judged["judged"], "says by which commit"
    changed = ("findings", "judged")
    assert {name: value for name, value in judged.items() if name not in changed} == {
        name: value for name, value in left.items() if name not in changed
    }


def test_a_second_judgement_that_fails_leaves_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = carried_out(tmp_path, monkeypatch, lambda quick: {"number": 7}, one_finding)
    with pytest.raises(AssertionError):
        carried_out(tmp_path, monkeypatch, never, refuted, "--judge")
    assert json.loads((tmp_path / finding.RESULTS).read_text()) == before


def test_there_must_be_something_to_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="nothing was measured"):
        carried_out(tmp_path, monkeypatch, never, one_finding, "--judge")


def test_the_page_takes_what_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / finding.QUICK_RESULTS).write_text('{"findings": ["quick"]}')
    assert page.facts_of(tmp_path) == {"findings": ["quick"]}
    (tmp_path / finding.RESULTS).write_text('{"findings": []}')
    assert capsys.readouterr().err == ""
    assert page.facts_of(tmp_path) == {"findings": ["quick"]}
    assert "results.json is not judged" in capsys.readouterr().err
    (tmp_path / finding.RESULTS).write_text('{"findings": ["whole"]}')
    assert page.facts_of(tmp_path) == {"findings": ["whole"]}


def test_the_page_is_that_of_the_records() -> None:
    assert page.page() == page.PAGE.read_text(encoding="utf-8")


def test_a_place_that_is_not_given_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILM", "there")
    assert location("MINILM") == "there"
    monkeypatch.delenv("MINILM")
    for given in (lambda: location("MINILM"), lambda: trained.train("full", [], quick=False)):
        with pytest.raises(
            SystemExit, match=r"^MINILM is not set in the environment: the folder with all-MiniLM-L6-v2$"
        ):
            given()


def test_places_are_asked_for_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILM", "there")
    monkeypatch.delenv("GLUE", raising=False)
    monkeypatch.delenv("LORALIB", raising=False)
    monkeypatch.setattr(lora_plus, "studied", never)
    monkeypatch.setattr(subspaces, "train", never)
    with pytest.raises(SystemExit, match="GLUE is not set"):
        lora_plus.measure(quick=False)
    with pytest.raises(SystemExit, match="LORALIB is not set"):
        subspaces.measure(quick=False)


def test_what_training_says_of_its_failure_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trained, "RUNS", tmp_path)
    with pytest.raises(SystemExit, match="training wrong ended with exit status"):
        trained.train("wrong", ["rnk=4"], quick=True)
    said = capfd.readouterr()
    assert "rnk" in said.err
    assert "Traceback" not in said.err


def test_a_run_that_lies_there_is_known_by_its_job_and_versions(tmp_path: Path) -> None:
    right = np.array([True, False])
    write_run(tmp_path / "run", right, config=configuration("qv"), job="j", versions={"lightning-lora": "0.0.9"})
    assert trained.finished(tmp_path / "run")
    assert not trained.finished(tmp_path)
    assert trained.identity(tmp_path / "run") == {"job_id": "j", "device": "", "versions": {"lightning-lora": "0.0.9"}}
    assert trained.score(tmp_path / "run") == 0.5


def a_run(task: str, rank: int, lr: float, seed: int = 0) -> dict[str, Any]:
    return {
        "task": task,
        "rank": rank,
        "alpha": None,
        "lr": lr,
        "seed": seed,
        "scaling": "alpha_over_rank",
        "score": lr,
    }


def test_a_task_with_fewer_rates_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [a_run("whole", rank, lr) for rank in (1, 8) for lr in (0.1, 0.2)]
    # As many ranks and as many runs, and one rate.
    part = [a_run("part", rank, 0.1, seed) for rank in (1, 8) for seed in (0, 1)]
    monkeypatch.setattr(hyperparameters, "REAL_RANKS", tmp_path / "results.json")
    for more, tasks in (([], {"whole"}), ([a_run("part", rank, 0.2) for rank in (1, 8)], {"whole", "part"})):
        (tmp_path / "results.json").write_text(json.dumps({"runs": [*whole, *part, *more]}))
        found = hyperparameters.ranks_and_alphas()
        assert {line["task"] for line in found} == tasks
        assert [line["score"] for line in found if line["task"] == "whole"] == [0.2, 0.2], "the best over the rates"


def test_so_stsb_is_left_out_until_it_has_as_many_rates_as_sst2() -> None:
    runs = json.loads(hyperparameters.REAL_RANKS.read_text())["runs"]
    assert {run["task"] for run in runs} == {"sst2", "stsb"}
    assert {line["task"] for line in hyperparameters.ranks_and_alphas()} == {"sst2"}


def test_what_others_measured_is_read_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.setattr(hyperparameters, "REAL_RANKS", tmp_path / "broken.json")
    monkeypatch.setattr(hyperparameters, "swept", never)
    monkeypatch.setattr(intrinsic, "MINILM", tmp_path / "broken.json")
    monkeypatch.setattr(intrinsic, "search", never)
    for experiment in (hyperparameters, intrinsic):
        with pytest.raises(ValueError, match="Expecting property name"):
            experiment.measure(quick=True)


def test_what_is_found_is_said_for_as_many_contrasts_as_are_corrected_for() -> None:
    generator = np.random.default_rng(0)
    seeds = (0, 1, 2)
    options = {
        ratio: Runs(seeds, 0.8 + generator.normal(scale=0.01, size=3), np.arange(3 * place, 3 * place + 3))
        for place, ratio in enumerate((1, 4, 16))
    }
    covariance = 1e-4 * np.eye(9)
    both = contrasts(options, covariance)
    alone = contrasts({ratio: options[ratio] for ratio in (1, 4)}, covariance)
    assert [one["ratio"] for one in both] == [4, 16]
    estimate = difference(options[4], options[1], covariance)
    assert both[0]["detectable"] == estimate.detectable(2)
    assert alone[0]["detectable"] == estimate.detectable(1) < both[0]["detectable"]
    assert both[0]["low"] == alone[0]["low"] == estimate.interval().low


SEARCHED = {"task": "sst2", "model": "m", "seeds": 1, "head": [0.5], "full": [0.8]}


def added(
    methods: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path, search: Callable[..., Any], machine: str = "here"
) -> None:
    """The command, with a search that says what is wanted of it, on a machine of that name."""
    monkeypatch.setattr(on_minilm, "MINILM", folder / "minilm.json")
    monkeypatch.setattr(on_minilm, "OTHER", folder / "other.json")
    monkeypatch.setattr(on_minilm, "provenance", lambda command: {"machine": machine, "versions": {"torch": "2"}})
    monkeypatch.setattr(on_minilm, "search", search)
    monkeypatch.setattr(on_minilm, "told", lambda data: "")
    monkeypatch.setattr(sys, "argv", ["on_minilm", "--model", "at/m", "--glue", "glue", "--methods", *methods])
    on_minilm.main()


def test_a_method_is_added_to_the_same_search_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object, head: float = 0.5, found: int = 1, methods: tuple[str, ...] = ("lora",)) -> dict[str, Any]:
        return SEARCHED | {"head": [head], "methods": dict.fromkeys(methods, found)}

    def held() -> dict[str, Any]:
        methods: dict[str, Any] = json.loads((tmp_path / "minilm.json").read_text())["data"]["methods"]
        return methods

    added(["direct"], monkeypatch, tmp_path, lambda *_: search(methods=("direct",)))
    added(["lora"], monkeypatch, tmp_path, search)
    assert held() == {"direct": 1, "lora": 1}
    with pytest.raises(SystemExit, match="another machine: give all methods"):
        added(["lora"], monkeypatch, tmp_path, never, machine="there")
    with pytest.raises(SystemExit, match=r"another head and stays.*other\.json"):
        added(["lora"], monkeypatch, tmp_path, lambda *_: search(head=0.6, found=2))
    assert held() == {"direct": 1, "lora": 1}
    assert json.loads((tmp_path / "other.json").read_text())["data"]["methods"] == {"lora": 2}
    added(["lora"], monkeypatch, tmp_path, lambda *_: search(found=3))
    assert held() == {"direct": 1, "lora": 3}
    everything = ["direct", "lora"]
    added(everything, monkeypatch, tmp_path, lambda *_: search(head=0.6, found=4, methods=("direct", "lora")), "there")
    assert held() == {"direct": 4, "lora": 4}, "nothing of the other machine is left"


def test_what_was_not_tried_is_not_called_unreached() -> None:
    searched = recorded("intrinsic_dimension/minilm_sst2.json")["data"]
    assert "are reached with 0.02% of D" in intrinsic.told(searched)
    lora = searched | {"methods": {"lora": searched["methods"]["lora"]}}
    assert "were not tried in random directions" in intrinsic.told(lora)
    unreached = searched["methods"]["direct"] | {"reached": {"metric": {"size": None}, "gain": {"size": None}}}
    assert "are not reached" in intrinsic.told(searched | {"methods": {"direct": unreached}})
    assert intrinsic.judged([intrinsic.share_reached(lora)]) == "undecided"
    assert intrinsic.judged([intrinsic.share_reached(lora), 0.002]) == "holds with conditions"
    assert intrinsic.judged([float("inf")]) == "false"


@pytest.mark.parametrize("name", ["subspaces/results.json", "subspaces/quick.json"])
def test_nothing_is_said_of_a_single_direction(name: str) -> None:
    data = recorded(name)["data"]
    low = data["ranks"][0]
    said = subspaces.of_the_size(data)
    assert f"ΔW's first {low} directions together" in said.holds_as
    data["amplification"]["1"]["value"]["factor"] *= 10
    assert subspaces.of_the_size(data).holds_as == said.holds_as
    data["amplification"][str(low)]["value"]["factor"] *= 10
    with pytest.raises(AssertionError, match="more than random directions do"):
        subspaces.of_the_size(data)


def test_the_gradient_at_one_update_is_that_of_every_rank_and_scale() -> None:
    torch.manual_seed(0)
    delta = torch.outer(*torch.randn(2, 512, dtype=torch.float64))
    one, other = (LoraSpec(rank, alpha, dtype=torch.float64) for rank, alpha in ((1, 3.0), (16, 4.0)))
    found = gradient_at(delta, 0, one)
    assert relative(gradient_at(delta, 0, other), found) < 1e-12
    assert relative(gradient_at(1.01 * delta, 0, other), found) > 1e-3, "the control"


def test_gradients_that_lie_apart_are_no_finding() -> None:
    same = {"scales": [1.0, 4.0], "apart": 1e-15, "from_zero": 1.0}
    data = recorded("scaling/quick.json")["data"] | {"at_one_delta": same}
    assert scaling.of_the_theorem(data).verdict == "holds with conditions"
    for wrong in ({"apart": 1e-6}, {"from_zero": 0.0}):
        with pytest.raises(AssertionError):
            scaling.of_the_theorem(data | {"at_one_delta": same | wrong})
