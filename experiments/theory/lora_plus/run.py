"""The reference LoRA+: is a higher learning rate for B better, once A's is chosen for each ratio?"""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from experiments.provenance import ROOT
from experiments.theory.environment import location
from experiments.theory.finding import Finding, Verdict, carry_out
from experiments.theory.lora_plus.study import LONG, QUICK, cell_of, studied
from lightning_lora.reporting.inference import LEVEL
from lightning_lora.reporting.plots.style import MUTED, SERIES, new_figure, styled

# Of the score: the smallest gain that the paper's abstract claims.
CLAIMED = 0.01
RUNS = ROOT / "multirun" / "lora_plus"


def measure(quick: bool) -> dict[str, Any]:
    """The long version keeps its runs, and goes on where it stopped."""
    if not quick:  # before the first task, which needs neither
        location("MINILM"), location("GLUE")
    with tempfile.TemporaryDirectory() if quick else nullcontext(RUNS) as folder:
        return {"studies": [studied(study, Path(folder) / study.task) for study in (QUICK if quick else LONG)]}


def is_better(comparison: dict[str, Any]) -> bool:
    return any(contrast["p"] < LEVEL and contrast["value"] > 0 for contrast in comparison["contrasts"])


def findings(data: dict[str, Any]) -> list[Finding]:
    studies = data["studies"]
    tuned = [study["task"] for study in studies if is_better(study["tuned"])]
    given = [study["task"] for study in studies if is_better(study["at the lowest rate"])]
    verdict: Verdict = "undecided"
    if len(tuned) == len(studies):
        verdict = "holds"
    elif tuned or given:
        verdict = "holds with conditions"
    elif all(contrast["high"] < CLAIMED for study in studies for contrast in study["tuned"]["contrasts"]):
        verdict = "false"
    return [
        Finding(
            "LoRA+",
            "a higher learning rate for B",
            "Listed as a reference (Hayou et al. 2024, arXiv 2402.12354), whose claim it is: with a learning rate of B "
            "above that of A, LoRA scores 1 to 2 % more and learns up to twice as fast at the same cost.",
            "A ratio and a learning rate are one choice in two numbers. Where the rate is given, and low, a ratio "
            f"above 1 makes up for it: shown here on {listed(given)}. That it is better than the ratio 1 at a rate "
            f"chosen as carefully: shown here on {listed(tuned)}.",
            verdict,
            "\n\n".join(map(measured, studies)),
        )
    ]


def listed(tasks: Sequence[str]) -> str:
    return " and ".join(tasks) or "no task"


def measured(study: dict[str, Any]) -> str:
    tuned = study["tuned"]
    lines = ["| | ratio | rate of A | dev score | less the ratio 1 | p |", "|---|---:|---:|---:|---|---:|"]
    for name, title in (("at the lowest rate", "the lowest rate"), ("tuned", "its best rate")):
        against = {contrast["ratio"]: contrast for contrast in study[name]["contrasts"]}
        lines += [row(title, option, against.get(option["ratio"])) for option in study[name]["options"]]
    unseen = max(contrast["detectable"] for contrast in tuned["contrasts"])
    return (
        f"{study['task']} with {study['model']}, rank 8 on query and value, {study['rows']:,} rows, "
        f"{study['epochs']} epochs, the head at {study['head_lr']:g} throughout. Rates of A from "
        f"{min(study['rates']):g} to {max(study['rates']):g}, each ratio's best one chosen on held-out rows with "
        f"another seed. {tuned['metric']} in points on {tuned['dev_rows']:,} dev rows, {len(study['seeds'])} seeds, "
        f"paired; 95 % intervals for other seeds and examples, p by Holm. At their best rates differences of up to "
        f"{100 * unseen:.1f} points may go unseen after that correction.\n\n" + "\n".join(lines)
    )


def row(title: str, option: dict[str, Any], contrast: dict[str, Any] | None) -> str:
    said = " | |"
    if contrast:
        value, low, high = (100 * contrast[end] for end in ("value", "low", "high"))
        said = f" {value:+.1f} ({low:+.1f} to {high:+.1f}) | {contrast['p']:.3f} |"
    return f"| {title} | {option['ratio']} | {option['lr']:g} | {100 * mean(option['scores']):.1f} |{said}"


def plot(data: dict[str, Any]) -> Figure:
    """A row for each task: scores over the rate of A on held-out rows, and differences from the ratio 1 on dev."""
    studies = data["studies"]
    with styled():
        figure = new_figure(2.9 * len(studies))
        for study, (left, right) in zip(studies, figure.subplots(len(studies), 2, squeeze=False), strict=True):
            draw_grid(left, study)
            draw_contrasts(right, study)
    return figure


def draw_grid(axes: Any, study: dict[str, Any]) -> None:
    for place, ratio in enumerate(study["ratios"]):
        scores = [100 * cell_of(study["grid"], ratio, lr) for lr in study["rates"]]
        style = {"marker": "os^Dvx"[place], "linestyle": ("-", "--", ":", "-.")[place % 4]}
        axes.plot(study["rates"], scores, color=SERIES[place % len(SERIES)], label=f"{ratio}", **style)
    axes.set_xscale("log")
    axes.set_xticks(study["rates"], [f"{lr:g}" for lr in study["rates"]])
    axes.minorticks_off()
    axes.set_title(f"{study['task']}: held-out rows", fontsize=8.5)
    axes.set_xlabel("learning rate of A")
    axes.set_ylabel(f"{study['tuned']['metric']}, points")
    axes.legend(
        title="rate of B / rate of A",
        title_fontsize=8,
        fontsize=8,
        framealpha=1,
        facecolor="white",
        edgecolor="none",
        ncols=2,
    )


def draw_contrasts(axes: Any, study: dict[str, Any]) -> None:
    places = {ratio: place for place, ratio in enumerate(ratio for ratio in study["ratios"] if ratio != 1)}
    for name, marker, colour, shift in (("at the lowest rate", "s", SERIES[1], 0.12), ("tuned", "o", SERIES[0], -0.12)):
        contrasts = study[name]["contrasts"]
        values = [100 * contrast["value"] for contrast in contrasts]
        ends = [[100 * abs(contrast[end] - contrast["value"]) for contrast in contrasts] for end in ("low", "high")]
        label = {"tuned": "each at its best rate", "at the lowest rate": f"both at {min(study['rates']):g}"}[name]
        where = [places[contrast["ratio"]] + shift for contrast in contrasts]
        axes.errorbar(where, values, ends, color=colour, marker=marker, linestyle="", capsize=3, label=label)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xticks(list(places.values()), [str(ratio) for ratio in places])
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_title(f"{study['task']}: dev set, 95 % intervals", fontsize=8.5)
    axes.set_xlabel("rate of B / rate of A")
    axes.set_ylabel("points above the ratio 1")
    axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
