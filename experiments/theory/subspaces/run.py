"""Section 7.2 and the LoRA paper's section 7: which directions updates share, and what of W they make larger."""

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from experiments.theory.environment import location
from experiments.theory.finding import Finding, carry_out
from experiments.theory.subspaces import published
from experiments.theory.subspaces.published import FAR
from experiments.theory.trained import Update, adapter_updates, identity, score, train
from lightning_lora.analysis import amplification, random_seen_along, random_similarity, seen_along, similarities
from lightning_lora.reporting.plots.style import new_figure, styled

ROLES = ("query", "key", "value", "output", "up", "down")
SOURCES = {"A": "A", "inputs": "ΔW's input side", "outputs": "ΔW's output side"}


def directions_from(update: Update, source: str) -> Tensor:
    """The matrix whose right singular vectors are compared; its columns are inputs, or for "outputs" outputs."""
    return {"A": update.A, "inputs": update.delta, "outputs": update.delta.T}[source]


def likeness(first: dict[str, Update], second: dict[str, Update], source: str) -> dict[str, Any]:
    """φ of every layer's A or ΔW in two runs: the mean grid, and φ(1, 1) and φ of all directions, beside chance.

    Layers with more features on that side are left out, as chance is another there.
    """
    least = min(directions_from(update, source).shape[1] for update in first.values())
    grids, top, whole, chance = [], [], [], []
    for name, update in first.items():
        if directions_from(update, source).shape[1] > least:
            continue
        i, j = len(update.A), len(second[name].A)
        grid = similarities(directions_from(update, source), directions_from(second[name], source))[:i, :j]
        grids.append(grid)
        top.append(float(grid[0, 0]))
        whole.append(float(grid[-1, -1]))
        chance.append(random_similarity(i, j, least))
    one = random_similarity(1, 1, least)
    return {
        "grid": torch.stack(grids).mean(0).tolist(),
        "top": top,
        "whole": whole,
        "chance_top": one,
        "chance_whole": chance[0],
        "top_far": float(np.mean([(value - one[0]) / one[1] > FAR for value in top])),
    }


def deviations(row: dict[str, Any], of: str) -> float:
    """How far a mean over layers, which are independent by chance, lies above chance: "top" is φ(1, 1), or "whole"."""
    expected, spread = row[f"chance_{of}"]
    return float((np.mean(row[of]) - expected) / spread * len(row[of]) ** 0.5)


def control(i: int, j: int, features: int, seed: int = 0) -> dict[str, Any]:
    """φ of two Gaussian matrices: the paper's control, and what is expected of it."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(rank, features, generator=generator) for rank in (i, j))
    grid = similarities(first, second)
    expected = [[random_similarity(a, b, features) for b in range(1, j + 1)] for a in range(1, i + 1)]
    off = [(grid[a][b] - expected[a][b][0]) / expected[a][b][1] for a, b in ((0, 0), (i - 1, i - 1), (i - 1, j - 1))]
    return {"grid": grid.tolist(), "deviations": [float(value) for value in off]}


def amplified(updates: dict[str, Update], rank: int) -> dict[str, dict[str, float]]:
    """The paper's table 7 by role, medians over blocks: W seen along ΔW's directions, random ones and its own."""
    rows: dict[str, list[list[float]]] = {role: [] for role in ROLES}
    for update in updates.values():
        W, D = update.weight, update.delta
        seen = [float(seen_along(W, D, rank)), random_seen_along(float(W.norm()), *W.shape, rank)]
        own = float(seen_along(W, W, rank))
        rows[update.role].append([float(D.norm()), float(W.norm()), *seen, own, amplification(D, W, rank)])
    names = ("delta", "weight", "along_delta", "along_random", "along_own", "factor")
    found = {role: dict(zip(names, np.median(row, 0).tolist(), strict=True)) for role, row in rows.items() if row}
    for row in found.values():
        row["factor_random"], row["factor_own"] = (row["delta"] / row[f"along_{of}"] for of in ("random", "own"))
    return found


def measure(quick: bool) -> dict[str, Any]:
    low, high = (4, 16) if quick else (8, 64)
    # Before the runs, which take a quarter of an hour.
    of_published = {} if quick else {"published": published.compare(Path(location("LORALIB")))}
    # On MRPC rank 64 learns nothing at 1e-3 with alpha = 128: it says the larger class of every row.
    lr_of_high = "lr=1e-3" if quick else "lr=2e-4"
    settings = {
        f"rank{low}": ["lora=all", f"rank={low}", "lr=1e-3", "seed=0"],
        f"rank{high}": ["lora=all", f"rank={high}", lr_of_high, "seed=0"],
        f"rank{high}_seed1": ["lora=all", f"rank={high}", lr_of_high, "seed=1"],
    }
    folders = {name: train(name, given, quick) for name, given in settings.items()}
    runs = [adapter_updates(folder) for folder in folders.values()]
    # Ranks are compared between seeds too, so that no draw of the start is common to both.
    pairs = {"ranks": (runs[0], runs[2]), "seeds": (runs[1], runs[2])}
    features = min(update.A.shape[1] for update in runs[0].values())
    return {
        "where": "the toy task, the embedded encoder" if quick else "MRPC, all-MiniLM-L6-v2",
        "ranks": [low, high],
        "scores": {name: score(folder) for name, folder in folders.items()},
        "runs": {name: identity(folder) for name, folder in folders.items()},
        "features": features,
        "likeness": {
            f"{pair}, {source}": likeness(*both, source) for pair, both in pairs.items() for source in SOURCES
        },
        "control": control(low, high, features),
        "amplification": {str(rank): amplified(runs[0], rank) for rank in (1, low)},
        **of_published,
    }


def likeness_table(data: dict[str, Any]) -> str:
    low, high = data["ranks"]
    labels = {"ranks": f"ranks {low} and {high}, other seeds", "seeds": f"rank {high}, two seeds"}
    lines = [
        "| between | directions of | φ(1, 1) | by chance | layers far above chance | φ of all | by chance |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for key, row in data["likeness"].items():
        pair, source = key.split(", ")
        (top, top_spread), (whole, spread) = row["chance_top"], row["chance_whole"]
        lines.append(
            f"| {labels[pair]} | {SOURCES[source]} | {np.mean(row['top']):.2f} "
            f"| {top:.3f} ± {top_spread:.3f} | {100 * row['top_far']:.0f} % | {np.mean(row['whole']):.3f} "
            f"| {whole:.3f} ± {spread:.3f} |"
        )
    return "\n".join(lines)


def amplification_table(data: dict[str, Any]) -> str:
    lines = [
        "| role | directions | ‖ΔW‖ | ‖W‖ | ‖UᵀWV‖: ΔW's | random | W's own | factor: ΔW's | random | W's own |",
        "|---|---|" + "---:|" * 8,
    ]
    for rank, roles in data["amplification"].items():
        for role, row in roles.items():
            cells = (f"{value:.2f}" for value in list(row.values())[:5])
            factors = (f"{value:.1f}" for value in list(row.values())[5:])
            lines.append(f"| {role} | {rank} | {' | '.join(cells)} | {' | '.join(factors)} |")
    return "\n".join(lines)


def shared(data: dict[str, Any]) -> str:
    """What two runs have in common, in words for just these data."""
    rows = data["likeness"]
    sides = {
        source: np.mean([np.mean(rows[f"{pair}, {source}"]["top"]) for pair in ("ranks", "seeds")])
        for source in SOURCES
    }
    far = [
        source
        for source in SOURCES
        if min(deviations(rows[f"{pair}, {source}"], "top") for pair in ("ranks", "seeds")) > FAR
    ]
    whole = {side: [rows[f"{pair}, {side}"] for pair in ("ranks", "seeds")] for side in ("inputs", "outputs")}
    off = {side: [f"{deviations(row, 'whole'):.0f}" for row in of_side] for side, of_side in whole.items()}
    alike = {side: [f"{np.mean(row['whole']):.2f}" for row in of_side] for side, of_side in whole.items()}
    chance = [f"{row['chance_whole'][0]:.2f}" for row in whole["inputs"]]
    # What the text says beyond these numbers.
    assert far, "no direction is shared more than by chance"
    for inputs, outputs in zip(*whole.values(), strict=True):
        assert deviations(outputs, "whole") > 4 * abs(deviations(inputs, "whole")), "inputs are shared as well"
    means = ", ".join(f"{sides[source]:.2f} on {SOURCES[source]}" for source in SOURCES)
    return (
        f"The first directions of two runs are more alike than by chance ({', '.join(SOURCES[of] for of in far)}), and "
        f"far from the same: φ(1, 1) is {means}, where 1 is the same. All directions together are at "
        f"{' and '.join(alike['inputs'])} in the input, where A's random start stays in what is trained "
        f"({' and '.join(off['inputs'])} deviations of the mean over layers above the chance of "
        f"{' and '.join(chance)}), and at {' and '.join(alike['outputs'])} in the output "
        f"({' and '.join(off['outputs'])} deviations), which starts at B = 0 and is learned. Directions that runs "
        "share in part do not show one subspace that the task needs, nor its dimension; that a rank is enough "
        "for a score is another statement."
    )


def setting(data: dict[str, Any]) -> str:
    """On what the runs were trained, and how well they did."""
    scores = ", ".join(f"{name} {value:.3f}" for name, value in data["scores"].items())
    return f"{data['where']}, LoRA on all projections (scores: {scores})"


def findings(data: dict[str, Any]) -> list[Finding]:
    of_published = f"\n\n{published.told(data['published'])}" if "published" in data else ""
    # The control is where it should be.
    assert max(map(abs, data["control"]["deviations"])) < FAR
    return [
        Finding(
            section="7.2",
            title="one low-dimensional subspace",
            claim="The adjustments that a task needs lie in a low-dimensional subspace.",
            holds_as=shared(data),
            verdict="undecided",
            measured=f"{setting(data)}; layers with {data['features']} features on the side. "
            f"φ of the LoRA paper (equation 4), by chance max(i, j)/{data['features']} with its deviation; far is more "
            f"than {FAR} deviations.\n\n{likeness_table(data)}{of_published}",
        ),
        of_the_size(data),
    ]


def of_the_size(data: dict[str, Any]) -> Finding:
    """What ΔW is beside W, and along how many directions; of one alone nothing is said, for chance spreads widely."""
    low = data["ranks"][0]
    roles = data["amplification"][str(low)].values()
    factors = [row["factor"] for row in roles]
    over_random = [row["factor"] / row["factor_random"] for row in roles]
    sizes = [row["delta"] / row["weight"] for row in roles]
    over_own = [row["factor"] / row["factor_own"] for row in roles]
    # The verdict's conditions, and what the text says.
    assert min(over_own) > 2, "ΔW's directions are W's own"
    assert max(over_random) < 1, "ΔW avoids what W has, more than random directions do"
    assert max(sizes) < 0.1, "ΔW is no minor adjustment"
    median = NormalDist().inv_cdf(0.75)
    return Finding(
        section="7.2",
        title="minor adjustments to what is there",
        claim="A pretrained model has the features, and a task makes minor adjustments to them.",
        holds_as="The LoRA paper's factor ‖ΔW‖/‖UᵀWV‖ does not show it alone: random directions have one too, which "
        f"grows as 1/rank, and which is larger than that of ΔW's first {low} directions together. Beside it the "
        "factor says that ΔW does not repeat W's first directions. Minor the adjustments are by size, ‖ΔW‖/‖W‖; "
        "whether the features were there before, no figure here says.",
        verdict="holds with conditions",
        measured=f"The run of rank {low}, medians over blocks. ‖ΔW‖ is {100 * min(sizes):.0f} to "
        f"{100 * max(sizes):.0f} % of ‖W‖. The factor along ΔW's {low} directions is {min(factors):.1f} to "
        f"{max(factors):.1f}: {min(over_random):.2f} to {max(over_random):.2f} of what random directions give, and at "
        f"least {min(over_own):.0f} times what W's own first ones give. The random norm is a "
        f"root mean square. Of one direction, where |uᵀWv| is normal, the median is {median:.2f} of it and the factor "
        f"{1 / median:.1f} times the one given, and both spread widely: nothing is read from those rows.\n\n"
        f"{amplification_table(data)}",
    )


def heat_map(axes: Axes, grid: list[list[float]], title: str, labels: tuple[str, str]) -> Any:
    cells = np.array(grid)
    size = (0.5, cells.shape[1] + 0.5, cells.shape[0] + 0.5, 0.5)
    image = axes.imshow(
        cells, norm=PowerNorm(0.5, 0, 1), cmap="cividis", aspect="auto", extent=size, interpolation="nearest"
    )
    axes.set_title(title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(visible=False)
    return image


def plot(data: dict[str, Any]) -> Figure:
    """φ(i, j), mean over layers, of two pairs of runs and of chance; and between the published adapter's modules."""
    low, high = data["ranks"]
    ranks, seeds = (f"j, of rank {high}", f"i, of rank {low}"), ("j, of seed 1", "i, of seed 0")
    shown = data["likeness"]
    panels = [
        (shown["ranks, outputs"]["grid"], f"output side of ΔW, ranks {low} and {high}", ranks),
        (shown["seeds, outputs"]["grid"], f"output side of ΔW, rank {high}, two seeds", seeds),
        (shown["ranks, inputs"]["grid"], f"input side of ΔW, ranks {low} and {high}", ranks),
        (shown["seeds, inputs"]["grid"], f"input side of ΔW, rank {high}, two seeds", seeds),
        (data["control"]["grid"], "two Gaussian matrices", (f"j, of {high}", f"i, of {low}")),
    ]
    if "published" in data:
        labels = ("module: query 1–12, value 13–24", "module")
        panels.append((data["published"]["grid"], "published MNLI adapter: φ(8, 8)", labels))
    with styled():
        rows = -(-len(panels) // 2)
        figure = new_figure(2.4 * rows)
        grid = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, (cells, title, labels) in zip(grid, panels, strict=False):
            image = heat_map(axes, cells, title, labels)
        for spare in grid[len(panels) :]:
            spare.remove()
        figure.colorbar(image, ax=list(grid[: len(panels)]), label="φ, from 0 (orthogonal) to 1 (contained)", aspect=40)
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
