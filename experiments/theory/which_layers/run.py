"""Section 5.2: how much of the quality query and value, all of the attention, or everything gives.

Nothing is trained here: the runs are those of experiments/layer_choice, scored on the dev sets with several seeds, each
option at the learning rate that was chosen for it on rows held out of training.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.provenance import ROOT
from experiments.theory.finding import Finding, Verdict, carry_out
from lightning_lora.reporting import read_record
from lightning_lora.reporting.collecting import collect
from lightning_lora.reporting.comparing import compare
from lightning_lora.reporting.comparison import OptionSummary
from lightning_lora.reporting.inference import LEVEL, Runs, difference
from lightning_lora.reporting.multiplicity import holm
from lightning_lora.reporting.plots.style import SERIES, new_figure, styled
from lightning_lora.reporting.resampling import example_covariance
from lightning_lora.reporting.scored import read_scored
from lightning_lora.sweeping import determines_result

RUNS = ROOT / "experiments" / "layer_choice" / "runs" / "layers"
CLAIMED = {"qv": 95.0, "qkvo": 98.0}
OPTIONS = ("head", *CLAIMED, "all", "full")
TITLES = {"qv": "query, value", "qkvo": "attention", "all": "attention and feed-forward"}
SEEDS = 3
"""A task counts where every option has at least so many."""
LEARNT = 0.02
"""And where `all` is so far above the head alone; else there is no gain to take shares of."""
RESAMPLING_SEED = 0


def measure(quick: bool) -> dict[str, Any]:
    """Task -> option -> mean, seeds, and quality relative to `all` with its interval; the same for both versions."""
    comparison = compare(collect([RUNS]).records, determines_result=determines_result)
    tasks = {}
    for task in comparison.tasks:
        options = {option.label: option for option in task.options}
        if all(len(options[name].seeds) >= SEEDS for name in OPTIONS if name in options) and set(OPTIONS) <= set(
            options
        ):
            p_values = p_of_claims(options)
            tasks[task.task] = {
                name: {
                    "mean": options[name].mean.value,
                    "ends": [options[name].mean.low, options[name].mean.high],
                    "seeds": len(options[name].seeds),
                    "relative": [relative.value, relative.low, relative.high]
                    if (relative := options[name].relative)
                    else None,
                    "p": p_values.get(name),
                }
                for name in OPTIONS
            }
    return {"tasks": tasks}


def p_of_claims(options: dict[str, OptionSummary]) -> dict[str, float]:
    """For each claim whether ``option − share · all`` is 0, given the chance of seeds and of examples.

    `inference.difference` with the share as the weight of `all` (Fieller 1954); not corrected for their number.
    """
    names = (*CLAIMED, "all")
    records = {folder: read_record(folder) for name in names for folder in options[name].folders}
    tables = [read_scored(folder, record) for folder, record in records.items()]
    predictions = np.stack([table.predictions for table in tables])
    metric = next(iter(records.values())).metric
    covariance = example_covariance(metric, tables[0].labels, predictions, RESAMPLING_SEED)
    runs, position = {}, 0
    for name in names:
        count = len(options[name].seeds)
        places = np.arange(position, position + count)
        runs[name] = Runs(options[name].seeds, np.array(options[name].scores), places)
        position += count
    return {
        name: difference(runs[name], runs["all"], covariance, weight=claimed / 100).p_value()
        for name, claimed in CLAIMED.items()
    }


def learnt(data: dict[str, Any]) -> list[str]:
    """The tasks on which there is something to take shares of."""
    return [task for task, found in data["tasks"].items() if found["all"]["mean"] - found["head"]["mean"] > LEARNT]


def share_of_gain(found: dict[str, Any], option: str) -> float:
    """Of what all gains over the head alone, in per cent."""
    head = found["head"]["mean"]
    return 100 * (found[option]["mean"] - head) / (found["all"]["mean"] - head)


def missed(data: dict[str, Any]) -> dict[str, float]:
    """Task and option that are not at the claimed share, with p by Holm over all of them."""
    pairs = [(task, option) for task in learnt(data) for option in CLAIMED]
    corrected = holm([data["tasks"][task][option]["p"] for task, option in pairs])
    return {f"{task} {option}": float(p) for (task, option), p in zip(pairs, corrected, strict=True) if p < LEVEL}


def findings(data: dict[str, Any]) -> list[Finding]:
    tasks = learnt(data)
    wrong = missed(data)
    verdict: Verdict = "false" if wrong else "undecided"
    spans = []
    for option, claimed in CLAIMED.items():
        shares = sorted(100 * data["tasks"][task][option]["relative"][0] for task in tasks)
        spans.append(f"{TITLES[option]} {shares[0]:.0f} to {shares[-1]:.0f} % (claimed {claimed:g} %)")
    ordered = [
        task
        for task in tasks
        if data["tasks"][task]["qv"]["mean"] < data["tasks"][task]["qkvo"]["mean"] < data["tasks"][task]["all"]["mean"]
    ]
    left_out = sorted(set(data["tasks"]) - set(tasks))
    seeds = min(one["seeds"] for found in data["tasks"].values() for one in found.values())
    listed = ", ".join(f"{pair} (p = {p:.2g})" for pair, p in wrong.items()) or "nowhere"
    return [
        Finding(
            "5.2",
            "which layers",
            "Query and value give 95 % of the quality, all of the attention 98 %, attention and feed-forward 100 %; no "
            "source is given. Start with query and value, add more if needed.",
            "There is no one percentage: it depends on the task, the metric, and whether one counts from zero or from "
            f"what the head alone scores. Of the score of all: {'; '.join(spans)}. The means are in the claimed order "
            f"on {len(ordered)} of {len(tasks)} tasks. Equal rank is not equal size: at rank r, all has 4.5 times the "
            "parameters of query and value where the feed-forward is four times as wide.",
            verdict,
            f"MiniLM at rank 8, dev sets, {seeds} seeds, each option at the rate chosen for it on held-out rows; "
            "quality relative to all with its 95 % interval over seeds and examples, in brackets the share of what all "
            f"gains over the head. Other than the claimed percentage, by Holm over {len(tasks) * len(CLAIMED)} tests: "
            f"{listed}. "
            + (f"Left out of the spans, where all gains under 2 points: {', '.join(left_out)}. " if left_out else "")
            + f"\n\n{table_of(data)}",
        )
    ]


def table_of(data: dict[str, Any]) -> str:
    headings = ("head alone", *TITLES.values(), "full fine-tuning")
    lines = [f"| task | {' | '.join(headings)} |", "|---|" + "---:|" * len(headings)]
    for task, found in sorted(data["tasks"].items()):
        cells = []
        for option in OPTIONS:
            text = f"{100 * found[option]['mean']:.1f}"
            if option in CLAIMED:
                value, low, high = (100 * end for end in found[option]["relative"])
                text += f" = {value:.0f} % [{low:.0f}, {high:.0f}]"
                text += f" ({share_of_gain(found, option):.0f} %)" if task in learnt(data) else ""
            cells.append(text)
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(data: dict[str, Any]) -> Figure:
    """Each task's score relative to `all` with its interval, beside what the document says."""
    tasks = sorted(learnt(data))
    with styled():
        figure = new_figure(2.9)
        axes = figure.subplots()
        for option, colour, marker, aside, dashes in zip(CLAIMED, SERIES, "os", (-0.1, 0.1), ("--", ":"), strict=False):
            found = [[100 * end for end in data["tasks"][task][option]["relative"]] for task in tasks]
            around = [[value - low for value, low, _ in found], [high - value for value, _, high in found]]
            places = [place + aside for place in range(len(tasks))]
            values = [value for value, _, _ in found]
            axes.errorbar(places, values, around, color=colour, marker=marker, linestyle="", label=TITLES[option])
            axes.axhline(CLAIMED[option], color=colour, linestyle=dashes, linewidth=0.9)
            axes.annotate(
                f"claimed {CLAIMED[option]:g} %",
                (1, CLAIMED[option]),
                xycoords=("axes fraction", "data"),
                xytext=(3, 4 if option == "qkvo" else -4),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=colour,
            )
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_xlim(-0.5, len(tasks) - 0.5)
        axes.set_ylabel("score, % of that of all")
        axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
