"""Section 9: the table of ranges for rank, alpha, learning rate and dropout, held against what was measured."""

import json
import math
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, variance
from typing import Any

from matplotlib.figure import Figure
from scipy import special

from experiments.layer_choice.run import best_rates
from experiments.provenance import ROOT
from experiments.theory.finding import Finding, Verdict, carry_out
from experiments.theory.hyperparameters.sweep import CENTRE, LONG, QUICK, TASK, swept
from lightning_lora.reporting.plots.style import MUTED, SERIES, new_figure, styled

RANGES = {"rank": (4, 64), "alpha / rank": (1, 2), "learning rate": (1e-4, 1e-3), "dropout": (0.05, 0.1)}
REAL_RANKS = ROOT / "experiments" / "rank_alpha" / "results.json"
ADAPTED = ("qv", "qkvo", "mlp", "all")


def measure(quick: bool) -> dict[str, Any]:
    grid, seeds, rows = (QUICK, 2, 1600) if quick else (LONG, 3, 3000)
    # Other experiments' facts, read before the sweep, which takes minutes.
    real = {"rates": rates_by_task(), "ranks": ranks_and_alphas()}
    with tempfile.TemporaryDirectory() as name:
        sweep = swept(Path(name), grid, seeds, rows)
    return {"seeds": seeds, "rows": rows, "sweep": sweep, **real}


def rates_by_task() -> dict[str, dict[str, float]]:
    """Task -> option -> the rate with the best score on held-out rows, at rank 8."""
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for (task, option), rate in best_rates(budget=None).items():
        table[task][option] = rate
    return dict(table)


def ranks_and_alphas() -> list[dict[str, Any]]:
    """On real tasks, scaled by alpha / rank: the best over the rates for each rank and alpha; empty without facts.

    A task is left out where less has been run of it than of another: of fewer settings, the rates among them.
    """
    if not REAL_RANKS.exists():
        return []
    best: dict[tuple[str, int, float], float] = {}
    settings: dict[str, set[tuple[int, float, float]]] = defaultdict(set)
    for one in json.loads(REAL_RANKS.read_text(encoding="utf-8"))["runs"]:
        if one["scaling"] == "alpha_over_rank":
            task, rank, per_rank = key = one["task"], one["rank"], (one["alpha"] or 2 * one["rank"]) / one["rank"]
            best[key] = max(one["score"], best.get(key, -math.inf))
            settings[task].add((rank, per_rank, one["lr"]))
    most = max(map(len, settings.values()), default=0)
    whole = {task for task, different in settings.items() if len(different) == most}
    names = "task", "rank", "alpha / rank", "score"
    return [dict(zip(names, (*key, score), strict=True)) for key, score in sorted(best.items()) if key[0] in whole]


def noise(data: dict[str, Any]) -> float:
    """How far two means over the seeds may lie apart by chance, at 95 %: Student's t on the pooled variance.

    It is that of seeds, and rows with them, and takes no account of how many comparisons are made.
    """
    settings = {
        ("centre", 0.0) if line["value"] == CENTRE[factor] else (factor, line["value"]): line["scores"]
        for factor, lines in data["sweep"].items()
        for line in lines
    }
    pooled = mean(variance(scores) for scores in settings.values())
    freedom = len(settings) * (data["seeds"] - 1)
    return float(special.stdtrit(freedom, 0.975)) * math.sqrt(2 * pooled / data["seeds"])


def as_good(data: dict[str, Any], factor: str) -> list[float]:
    """The values that cannot be told from the factor's best one."""
    means = {line["value"]: mean(line["scores"]) for line in data["sweep"][factor]}
    return [value for value, score in means.items() if score >= max(means.values()) - noise(data)]


def within(factor: str, value: float) -> bool:
    low, high = RANGES[factor]
    return low <= value <= high


def judged(data: dict[str, Any], factor: str) -> Verdict:
    """Holds where exactly the values in the range are as good as the best; false where none of them is.

    Undecided where no value can be told from the best.
    """
    good = set(as_good(data, factor))
    inside = {line["value"] for line in data["sweep"][factor] if within(factor, line["value"])}
    if len(good) == len(data["sweep"][factor]):
        return "undecided"
    if not good & inside:
        return "false"
    return "holds" if good == inside else "holds with conditions"


def findings(data: dict[str, Any]) -> list[Finding]:
    return [of_rank(data), of_alpha(data), of_rate(data), of_dropout(data)]


def listed(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def sweep_table(data: dict[str, Any], factor: str) -> str:
    lines = [f"| {factor} | in the range | Matthews, mean | of each seed |", "|---:|---|---:|---|"]
    lines += [
        f"| {line['value']:g} | {'yes' if within(factor, line['value']) else 'no'} | "
        f"{100 * mean(line['scores']):.1f} | "
        f"{', '.join(f'{100 * score:.1f}' for score in line['scores'])} |"
        for line in data["sweep"][factor]
    ]
    return "\n".join(lines)


def toy(data: dict[str, Any], factor: str) -> str:
    """What the generated task says of a factor."""
    others = ", ".join(f"{name} {value:g}" for name, value in CENTRE.items() if name != factor)
    return (
        f"Generated task ({TASK}, embedded encoder, {data['rows']:,} rows once, query and value; {others}; "
        f"{data['seeds']} seeds; in points; two means differ by chance by up to {100 * noise(data):.1f}). As good as "
        f"the best: {listed(as_good(data, factor))}.\n\n{sweep_table(data, factor)}"
    )


def real_table(data: dict[str, Any], factor: str) -> str:
    """What real tasks say of rank or alpha: the best over the other and the rates."""
    if not data["ranks"]:
        return "On real tasks it is not measured yet (experiments/rank_alpha)."
    best: dict[tuple[str, float], float] = {}
    for line in data["ranks"]:
        key = line["task"], line[factor]
        best[key] = max(line["score"], best.get(key, -math.inf))
    tasks = sorted({task for task, _ in best})
    parts = [
        f"{task}: "
        + ", ".join(f"{100 * score:.1f} at {value:g}" for (of, value), score in sorted(best.items()) if of == task)
        for task in tasks
    ]
    return f"MiniLM, dev set, one seed, best over the other settings under alpha / rank: {'; '.join(parts)}."


def of_rank(data: dict[str, Any]) -> Finding:
    outside = [value for value in as_good(data, "rank") if not within("rank", value)]
    worse = [line["value"] for line in data["sweep"]["rank"] if line["value"] not in as_good(data, "rank")]
    holds_as = "More rank is more capacity by the bound on the rank of ΔW (1.1); it need not be a better score. "
    holds_as += f"Here rank {listed(outside)} did as well as any" if outside else "Here no rank below 4 did as well"
    holds_as += f", and rank {listed(worse)} worse than the best" if worse else ""
    holds_as += ", at one learning rate; as Adam's step grows with the rank where α/r is kept (3.1), each has its own."
    return Finding(
        "9",
        "the hyperparameter table: rank",
        "r from 4 to 64; higher is more capacity.",
        holds_as,
        judged(data, "rank"),
        f"{toy(data, 'rank')}\n\n{real_table(data, 'rank')}",
    )


def of_alpha(data: dict[str, Any]) -> Finding:
    good = as_good(data, "alpha / rank")
    return Finding(
        "9",
        "the hyperparameter table: alpha",
        "α from r to 2 r: the scale of the adaptation.",
        f"That makes the scale 1 to 2. At this learning rate scales of {listed(good)} could not be told from the best; "
        "the scale trades against the learning rate, and one of them can be left alone.",
        judged(data, "alpha / rank"),
        f"{toy(data, 'alpha / rank')}\n\n{real_table(data, 'alpha / rank')}",
    )


def of_rate(data: dict[str, Any]) -> Finding:
    chosen = [rates[option] for rates in data["rates"].values() for option in ADAPTED]
    in_range = sum(within("learning rate", rate) for rate in chosen)
    lines = [f"| task | {' | '.join(ADAPTED)} | full |", "|---|" + "---:|" * (len(ADAPTED) + 1)]
    lines += [
        f"| {task} | {' | '.join(f'{rates[option]:g}' for option in ADAPTED)} | {rates['full']:g} |"
        for task, rates in sorted(data["rates"].items())
    ]
    table = "\n".join(lines)
    verdict: Verdict = "false" if 2 * in_range < len(chosen) else "holds with conditions"
    if in_range == len(chosen) and judged(data, "learning rate") == "holds":
        verdict = "holds"
    return Finding(
        "9",
        "the hyperparameter table: learning rate",
        "1e-4 to 1e-3, higher than for full fine-tuning.",
        f"For MiniLM the best rate lay in the range in {in_range} of {len(chosen)} cases. It depends on layers, task "
        f"and model: the embedded encoder, far smaller, is best served by {listed(as_good(data, 'learning rate'))}. "
        "Whether LoRA's rate is the higher one is not tested: its grid begins where that of full fine-tuning ends.",
        verdict,
        "MiniLM at rank 8, three epochs, the rate with the best score on rows held out of training (one seed, grids "
        f"3e-4 to 1e-2 and 3e-5 to 3e-4; LoRA below 3e-4 was not tried):\n\n{table}\n\n{toy(data, 'learning rate')}",
    )


def of_dropout(data: dict[str, Any]) -> Finding:
    good = as_good(data, "dropout")
    without = "as good as the best" if 0.0 in good else "worse than the best"
    return Finding(
        "9",
        "the hyperparameter table: dropout",
        "0.05 to 0.1, as regularisation.",
        f"No dropout was {without} here, where each row is seen once and there is little to overfit; what a small set "
        "seen many times would want is not measured.",
        judged(data, "dropout"),
        f"{toy(data, 'dropout')}\n\nOn real tasks it is not measured yet.",
    )


def short(value: float) -> str:
    """A number as it fits below a panel: 64, 0.05, 3e-4."""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 0.02 else f"{value:g}"


def plot(data: dict[str, Any]) -> Figure:
    """A panel for each factor: seeds as small marks, their mean as a line, the document's range shaded."""
    with styled():
        figure = new_figure(2.6)
        panels = figure.subplots(1, len(RANGES), sharey=True)
        for axes, (factor, lines) in zip(panels, data["sweep"].items(), strict=True):
            places = range(len(lines))
            inside = [place for place in places if within(factor, lines[place]["value"])]
            if inside:
                axes.axvspan(inside[0] - 0.4, inside[-1] + 0.4, color=MUTED, alpha=0.15, linewidth=0)
            means = [100 * mean(line["scores"]) for line in lines]
            axes.plot(places, means, color=SERIES[0], marker="o", label="mean")
            for place, line in zip(places, lines, strict=True):
                scores = [100 * score for score in line["scores"]]
                axes.plot([place] * len(scores), scores, color=SERIES[1], marker="_", markersize=9, linestyle="")
            axes.set_xlabel(factor)
            axes.set_xticks(places, [short(line["value"]) for line in lines], fontsize=8)
        panels[0].set_ylabel("Matthews, points")
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
