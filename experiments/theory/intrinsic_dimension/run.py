"""Section 7.1: in how many random directions must a model be trained to reach 90 % of full fine-tuning?"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.theory.finding import Finding, Verdict, carry_out
from experiments.theory.intrinsic_dimension.trials import SHARE, Method, Recipe, search
from lightning_lora.reporting.plots.style import INK, MUTED, SERIES, new_figure, styled

TOY = Recipe(
    model="tiny",
    task="toy_acceptability",
    path=None,
    train_rows=1000,
    epochs=3,
    batch_size=16,
    lr=5e-4,
    lora_lr=3e-3,
    head_lr=1e-2,
    step=1.0,
)
# The step of each dimension is chosen from these: a step of Adam in the whole space is 0.5 long at its rate.
STEPS = (0.3, 1.0, 3.0)
# Low means: of the parameters, at most this share. Set before the quick version ran.
LOW = 0.01
# Up to so many times that, a coarse grid and few seeds leave it open.
OPEN = 10

# Table 1 of arXiv 2012.13255: d90 on MRPC and QQP, with scales for layers (SAID) and without (DID).
PUBLISHED = {
    "BERT-base": (1608, 8030, 1861, 9295),
    "BERT-large": (1037, 1200, 2493, 1389),
    "RoBERTa-base": (896, 896, 1000, 1389),
    "RoBERTa-large": (207, 774, 322, 774),
}
MINILM = Path(__file__).parent / "minilm_sst2.json"
MODELS = {"toy": "The embedded encoder", "minilm": "all-MiniLM-L6-v2"}
NAMES = {"direct": "random subspace", "structured": "with a scale per layer", "lora": "LoRA on query and value"}


def measure(quick: bool) -> dict[str, Any]:
    """Quick: one seed, one step, a coarse grid of the direct subspace. MiniLM's facts are those of on_minilm.py."""
    minilm = json.loads(MINILM.read_text(encoding="utf-8"))["data"]  # before the search, which takes an hour
    seeds, steps = (1, ()) if quick else (3, STEPS)
    grids: dict[Method, Any] = {"direct": [4**k for k in range(3, 8)]}
    if not quick:
        sizes = [2**k for k in range(4, 18)]
        grids = {"direct": sizes, "structured": sizes, "lora": [1, 2, 4, 8, 16, 32]}
    return {"toy": search(TOY, grids, seeds, steps), "minilm": minilm}


def findings(data: dict[str, Any]) -> list[Finding]:
    return [of_the_dimension(data), of_the_example()]


def share_reached(searched: dict[str, Any]) -> float | None:
    """Of all parameters, the least share that a random subspace needs for 90 % of the metric; inf where none does.

    None where no random subspace was tried.
    """
    reached = [found["reached"]["metric"]["size"] for name, found in searched["methods"].items() if name != "lora"]
    if not reached:
        return None
    return float(min((size for size in reached if size is not None), default=math.inf) / searched["parameters"])


def judged(shares: Iterable[float | None]) -> Verdict:
    """By the least share of the models; what was not tried says nothing."""
    least = min((share for share in shares if share is not None), default=None)
    if least is None:
        return "undecided"
    return "holds with conditions" if least <= LOW else "undecided" if least <= OPEN * LOW else "false"


def of_the_dimension(data: dict[str, Any]) -> Finding:
    return Finding(
        "7.1",
        "the intrinsic dimension of fine-tuning",
        "A theorem: with θ = θ0 + P δ and d ≪ D random directions 90 % of full fine-tuning is reached.",
        "An empirical finding and no theorem: it belongs to a pretrained model, a task, a metric and a recipe, and is "
        "the rank of no matrix. P lifts R^d into R^D. The 90 % are of the metric, of which a head alone may have much: "
        "90 % of the gain over the head is the stricter measure.",
        judged(map(share_reached, data.values())),
        "\n\n".join(f"{MODELS[name]} on {told(searched)}" for name, searched in data.items())
        + f"\n\nThe document does not say what counts as d ≪ D; the bar set before was {LOW:.0%} of D, and up to "
        f"{OPEN} times that is called undecided. These are small encoders, trained for a short while with rates that "
        "were tried by hand: they say nothing against the figures published for large ones.",
    )


def told(searched: dict[str, Any]) -> str:
    """What one search found: a few sentences, and the tables."""
    share, thresholds = share_reached(searched), searched["thresholds"]
    reached = "were not tried in random directions"
    if share is not None:
        reached = f"are reached with {share:.2%} of D" if share < 1 else "are not reached"
    return (
        f"{searched['task']}, D = {searched['parameters']:,} parameters below the head, {searched['steps']} steps, "
        f"{seeds(searched['seeds'])}. The head ({searched['head_parameters']:,}) trains besides, everywhere. It alone "
        f"has an accuracy of {mean(searched['head']):.3f}, full fine-tuning {mean(searched['full']):.3f}; {SHARE:.0%} "
        f"of the metric ({thresholds['metric']:.3f}) {reached}; {SHARE:.0%} of the gain are {thresholds['gain']:.3f}."
        f"\n\n{table(searched)}"
    )


def seeds(count: int) -> str:
    return "one seed, so that the noise between seeds is not known" if count == 1 else f"{count} seeds"


def table(data: dict[str, Any]) -> str:
    """What each method needs, and then each score."""
    lines = ["| | d for 90 % of the metric | d for 90 % of the gain |", "|---|---:|---:|"]
    for name, found in data["methods"].items():
        cells = [needed(found, found["reached"][kind], data["seeds"]) for kind in ("metric", "gain")]
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    lines += ["", "| | size | numbers trained | step | score |", "|---|---:|---:|---:|---:|"]
    for name, found in data["methods"].items():
        lines += [
            f"| {NAMES[name]} | {t['size']:,} | {t['trains']:,} | {t.get('step', '')} | {t['mean']:.3f} |"
            for t in found["tried"]
        ]
    return "\n".join(lines)


def needed(found: dict[str, Any], reached: dict[str, Any], count: int) -> str:
    """The numbers trained at the smallest size that reaches, and the sizes between which noise leaves it open."""
    trains = {one["size"]: one["trains"] for one in found["tried"]}
    if reached["size"] is None:
        return f"more than {trains[found['largest']]:,}"
    ends = [f"{trains[reached[end]]:,}" if reached[end] else "?" for end in ("surely_below", "surely_reached")]
    return f"{trains[reached['size']]:,}" + (f" ({' to '.join(ends)})" if count > 1 else "")


def of_the_example() -> Finding:
    lines = ["| | MRPC, SAID | QQP, SAID | MRPC, DID | QQP, DID |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {name} | {' | '.join(f'{d:,}' for d in row)} |" for name, row in PUBLISHED.items()]
    base, large = PUBLISHED["RoBERTa-base"][0], PUBLISHED["RoBERTa-large"][0]
    return Finding(
        "7.1",
        "RoBERTa's intrinsic dimension",
        "For RoBERTa d is about 896 against |θ| = 355M.",
        f"{base} is RoBERTa-base's figure for MRPC, of 125M parameters; 355M is the size of RoBERTa-large, whose "
        f"figure for MRPC is {large}.",
        "false",
        "Quoted, not measured here: d for 90 % of the metric (Aghajanyan et al. 2020, arXiv 2012.13255, table 1; taken "
        "from later accounts of it, in agreement with its abstract):\n\n" + "\n".join(lines),
    )


def plot(data: dict[str, Any]) -> Figure:
    """A panel for each model: scores over the numbers that train besides the head; a thin line is between seeds."""
    with styled():
        figure = new_figure(3.2 * len(data))
        for axes, (name, searched) in zip(figure.subplots(len(data), 1), data.items(), strict=True):
            axes.set_title(MODELS[name])
            draw(axes, searched)
    return figure


def draw(axes: Axes, data: dict[str, Any]) -> None:
    for (name, label), colour, marker in zip(NAMES.items(), SERIES, "os^", strict=False):
        if name not in data["methods"]:
            continue
        found = data["methods"][name]
        numbers = [one["trains"] for one in found["tried"]]
        axes.plot(numbers, [one["mean"] for one in found["tried"]], color=colour, marker=marker, label=label)
        for number, one in zip(numbers, found["tried"], strict=True):
            axes.plot([number] * 2, [min(one["scores"]), max(one["scores"])], color=colour, linewidth=0.8)
    levels = {"full fine-tuning": (mean(data["full"]), "-"), "head alone": (mean(data["head"]), "-.")}
    levels |= {
        "90 % of the metric": (data["thresholds"]["metric"], "--"),
        "90 % of the gain": (data["thresholds"]["gain"], ":"),
    }
    for name, (level, dashes) in levels.items():
        colour = INK if name == "full fine-tuning" else MUTED
        axes.axhline(level, color=colour, linestyle=dashes, linewidth=1.1, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"numbers that train besides the head (of {data['parameters']:,})")
    axes.set_ylabel(f"{data['task']}: accuracy")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
