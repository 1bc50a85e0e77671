"""Sections 3.1, 3.2 and 8.2: gradients and first steps over the rank, for each rule of scaling and initialisation."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.theory.finding import Finding, carry_out
from experiments.theory.scaling.first_step import WIDTH, first_steps, gradient_at, relative
from lightning_lora.analysis import (
    Moments,
    expected_adam_step,
    expected_cosine,
    expected_gradient_norm,
    expected_sgd_step,
    initial_moments,
    product_moments,
)
from lightning_lora.lora import INITIALISATIONS, LoraSpec
from lightning_lora.reporting.plots.style import SERIES, new_figure, styled

RANKS = (1, 4, 16, 64, 256)
# The rules with the alphas that give them all the scale 1 at rank 16. `constant` is also what alpha = r gives.
ALPHAS = {"constant": 1.0, "alpha_over_rank": 16.0, "alpha_over_sqrt_rank": 4.0}
DRAWS = 20_000
# A quantity that changes by less than this over 1 to 256 is called independent of the rank.
INDEPENDENT = 1.3


def cell(initialisation: str, rule: str, rank: int, seeds: int) -> dict[str, Any]:
    """One row: root mean squares over seeds, and what is expected of them."""
    spec = LoraSpec(rank, ALPHAS[rule], scaling=rule, initialisation=initialisation, dtype=torch.float64)
    runs = [first_steps(seed, spec) for seed in range(seeds)]
    A = initial_moments(initialisation, rank, WIDTH)
    return {
        "initialisation": initialisation,
        "rule": rule,
        "rank": rank,
        "scale": spec.scale,
        **{name: math.sqrt(sum(run[name] ** 2 for run in runs) / seeds) for name in runs[0]},
        "largest_closed_form_error": max(run["closed_form_error"] for run in runs),
        "expected_gradient_B": expected_gradient_norm(rank, A, spec.scale),
        "expected_sgd_step": expected_sgd_step(rank, WIDTH, A, spec.scale),
        "expected_cosine": expected_cosine(rank, WIDTH, A.kurtosis),
        "expected_adam_step": expected_adam_step(rank, WIDTH, WIDTH, A, spec.scale),
    }


def product_at(rank: int) -> dict[str, float]:
    """Standard deviation of an entry of B A with independent factors of variance 1, over independent draws."""
    generator = torch.Generator().manual_seed(rank)
    b, a = (torch.randn(DRAWS, rank, generator=generator) for _ in range(2))
    moments = product_moments(rank, Moments(1.0), Moments(1.0))
    low, high = moments.mean_square_bounds(DRAWS)
    measured = float((a * b).sum(dim=1).double().square().mean())
    return {"rank": rank, "std": math.sqrt(measured), "derived": moments.std, "within": low < measured < high}


def at_one_delta(seed: int = 0) -> dict[str, Any]:
    """The gradient with respect to ΔW at one ΔW of rank 1, set as factors of every rank and scale.

    How far these gradients lie apart, and as a control how far from the one at ΔW = 0.
    """
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    delta = torch.outer(u, v) / math.sqrt(WIDTH)
    specs = [LoraSpec(rank, ALPHAS[rule], scaling=rule, dtype=torch.float64) for rule, rank in product(ALPHAS, RANKS)]
    gradients = [gradient_at(delta, seed, spec) for spec in specs]
    at_zero = gradient_at(torch.zeros_like(delta), seed, specs[0])
    return {
        "scales": [spec.scale for spec in specs],
        "apart": max(relative(gradient, gradients[0]) for gradient in gradients),
        "from_zero": min(relative(gradient, at_zero) for gradient in gradients),
    }


def measure(quick: bool) -> dict[str, Any]:
    seeds = 5 if quick else 40
    cells = product(INITIALISATIONS, ALPHAS, RANKS)
    table = [cell(initialisation, rule, rank, seeds) for initialisation, rule, rank in cells]
    return {
        "seeds": seeds,
        "table": table,
        "products": [product_at(rank) for rank in RANKS],
        "at_one_delta": at_one_delta(),
    }


def along_ranks(data: dict[str, Any], initialisation: str, rule: str, quantity: str) -> list[float]:
    chosen = (line for line in data["table"] if (line["initialisation"], line["rule"]) == (initialisation, rule))
    return [line[quantity] for line in chosen]


def growth(data: dict[str, Any], initialisation: str, rule: str, quantity: str) -> float:
    """The quantity at the largest rank over that at the smallest."""
    values = along_ranks(data, initialisation, rule, quantity)
    return values[-1] / values[0]


QUANTITIES = {
    "gradient_B": "‖dL/dB‖",
    "gradient_B_entry": "one entry of dL/dB",
    "gradient_A_after_sgd": "‖dL/dA‖ after a step of SGD",
    "gradient_A_after_adam": "‖dL/dA‖ after a step of Adam",
    "sgd_step": "SGD's step in ΔW",
    "adam_step": "Adam's step in ΔW",
}


def findings(data: dict[str, Any]) -> list[Finding]:
    assert LoraSpec(7, 7).scale == 1.0, "alpha = r is the constant scale 1"
    return [of_the_rule(data), of_the_formulas(data), of_the_invariance(data), of_the_theorem(data)]


def of_the_rule(data: dict[str, Any]) -> Finding:
    products = data["products"]
    assert all(one["within"] for one in products)
    lines = ["| r | std of (B A)_ij | √r | with 1/r | with 1/√r |", "|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {one['rank']} | {one['std']:.2f} | {one['derived']:.0f} | {one['std'] / one['rank']:.3f} | "
        f"{one['std'] / math.sqrt(one['rank']):.3f} |"
        for one in products
    ]
    shrunk = products[0]["std"] / (products[-1]["std"] / products[-1]["rank"])
    return Finding(
        "3.1",
        "why the scale is α/r",
        "With the rank B A grows, and dividing by r keeps its size; usually α = 2 r.",
        "With independent factors B A grows as √r, so α/√r keeps its size and α/r shrinks it (rsLoRA, arXiv "
        "2312.03732); so it is with Adam's first step from Kaiming's initialisation, where B depends on A (3.2). "
        "α = 2 r makes the scale 2 at every rank, which divides by nothing. Hu et al. (section 4.1) hold α constant in "
        "r.",
        "holds" if shrunk < INDEPENDENT else "false",
        f"Factors of variance 1, {DRAWS:,} independent draws for each rank, each within its 99.9 % bounds:\n\n"
        + "\n".join(lines),
    )


def of_the_formulas(data: dict[str, Any]) -> Finding:
    error = max(line["largest_closed_form_error"] for line in data["table"])
    return Finding(
        "3.2",
        "the gradients of A and B",
        "dL/dA = (α/r) Bᵀ (dL/dh) xᵀ and dL/dB = (α/r) (dL/dh) (A x)ᵀ.",
        "As stated, summed over the positions of the batch.",
        "holds" if error < 1e-12 else "false",
        f"Against autograd in fp64, before and after a step of SGD and of Adam, {len(data['table']) * data['seeds']} "
        f"cases: the largest relative difference is {error:.1e}.",
    )


def of_the_invariance(data: dict[str, Any]) -> Finding:
    free = {
        (initialisation, quantity)
        for initialisation, quantity in product(INITIALISATIONS, QUANTITIES)
        if is_independent(growth(data, initialisation, "constant", quantity))
    }
    assert free == {
        ("gaussian", "gradient_B"),
        ("gaussian", "gradient_A_after_sgd"),
        ("gaussian", "adam_step"),
        ("kaiming", "gradient_B_entry"),
    }
    assert is_independent(growth(data, "kaiming", "alpha_over_sqrt_rank", "adam_step"))
    grows = {name: growth(data, name, "constant", "gradient_B") for name in INITIALISATIONS}
    return Finding(
        "3.2",
        "α = r and the rank",
        "With α = r the gradients do not depend on the rank.",
        "With A ~ N(0, 1/r) and α = r the expected squares of ‖dL/dB‖ before the first step and of ‖dL/dA‖ after a "
        "step of SGD do not depend on the rank, nor, while r ≪ k, does Adam's first step in ΔW; the entries of dL/dB "
        "and SGD's step fall with it. With Kaiming's initialisation, which the document's own code has, only an entry "
        "of dL/dB stays: norms and steps grow as √r and more, and for Adam it is α/√r that keeps the step.",
        "false",
        f"‖dL/dB‖ from r = {RANKS[0]} to {RANKS[-1]} at α = r: {grows['kaiming']:.1f} times with Kaiming's "
        f"initialisation, {grows['gaussian']:.2f} times with N(0, 1/r). How many times each quantity grows "
        f"({WIDTH} inputs and outputs, root mean square over {data['seeds']} seeds; bold: within a factor of "
        f"{INDEPENDENT}):\n\n{table_of_growth(data)}",
    )


def is_independent(grows: float) -> bool:
    return 1 / INDEPENDENT < grows < INDEPENDENT


def table_of_growth(data: dict[str, Any]) -> str:
    names = {"constant": "α = r", "alpha_over_rank": "α/r", "alpha_over_sqrt_rank": "α/√r"}
    columns = [(initialisation, rule) for initialisation in INITIALISATIONS for rule in ALPHAS]
    lines = [
        "| | " + " | ".join(f"{initialisation}, {names[rule]}" for initialisation, rule in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for quantity, title in QUANTITIES.items():
        values = [growth(data, *column, quantity) for column in columns]
        marked = [f"**{v:.2f}**" if is_independent(v) else f"{v:.3g}" for v in values]
        lines.append(f"| {title} | {' | '.join(marked)} |")
    return "\n".join(lines)


def of_the_theorem(data: dict[str, Any]) -> Finding:
    same = data["at_one_delta"]
    lines = ["| r | ‖step‖ / (lr ‖G‖) | expected | cosine with G | √(r/(k+r+1)) |", "|---:|---:|---:|---:|---:|"]
    gaussian = [line for line in data["table"] if (line["initialisation"], line["rule"]) == ("gaussian", "constant")]
    lines += [
        f"| {line['rank']} | {line['sgd_step']:.2f} | {line['expected_sgd_step']:.2f} | {line['cosine']:.3f} | "
        f"{line['expected_cosine']:.3f} |"
        for line in gaussian
    ]
    falls = gaussian[0]["sgd_step"] / gaussian[-1]["sgd_step"]
    assert same["apart"] < 1e-12
    assert same["from_zero"] > 0.1, "the control: another ΔW has another gradient"
    assert falls > INDEPENDENT
    return Finding(
        "8.2",
        "gradient flow and the rank",
        "With α = r the gradient with respect to ΔW does not depend on the rank, so the rank leaves the gradient's "
        "flow as it is.",
        "At a given ΔW its gradient is that of the weight: this says no more than that ΔW = B A, and α has no part in "
        "it. What is taken is the step −lr s² (B Bᵀ G + G Aᵀ A), whose size and direction depend on the rank.",
        "holds with conditions",
        f"One ΔW of rank 1, set as factors in {len(same['scales'])} ways (ranks {RANKS[0]} to {RANKS[-1]}, scales "
        f"{min(same['scales']):g} to {max(same['scales']):g}), has the same dL/dΔW in all (largest relative difference "
        f"{same['apart']:.0e}, and {same['from_zero']:.1f} to that at ΔW = 0). The first step of SGD with α = r and "
        f"A ~ N(0, 1/r) is {falls:.0f} times smaller at r = {RANKS[-1]} than at {RANKS[0]}:\n\n" + "\n".join(lines),
    )


PANELS = {
    "gradient_B": "‖dL/dB‖ / ‖G‖",
    "sgd_step": "SGD: ‖step in ΔW‖ / (lr ‖G‖)",
    "adam_step": "Adam: ‖step in ΔW‖ / lr",
}


def plot(data: dict[str, Any]) -> Figure:
    """A row for each initialisation, a column for each quantity; marks are measured, lines are expected."""
    labels = {"constant": "s = 1 (α = r)", "alpha_over_rank": "s = 16/r", "alpha_over_sqrt_rank": "s = 4/√r"}
    with styled():
        figure = new_figure(4.7)
        grid = figure.subplots(len(INITIALISATIONS), len(PANELS), sharex=True, sharey="col")
        for row, initialisation in zip(grid, INITIALISATIONS, strict=True):
            for axes, (quantity, title) in zip(row, PANELS.items(), strict=True):
                for rule, colour, marker, dashes in zip(ALPHAS, SERIES, "os^", ("-", "--", ":"), strict=False):
                    expected = along_ranks(data, initialisation, rule, f"expected_{quantity}")
                    measured = along_ranks(data, initialisation, rule, quantity)
                    axes.plot(RANKS, expected, color=colour, linestyle=dashes, linewidth=1.1)
                    axes.plot(RANKS, measured, color=colour, linestyle="", marker=marker, label=labels[rule])
                axes.set_xscale("log", base=2)
                axes.set_yscale("log")
                axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
                axes.yaxis.set_major_formatter("{x:g}")
                axes.set_title(title, fontsize=8.5)
            row[0].set_ylabel({"kaiming": "Kaiming's A", "gaussian": "A ~ N(0, 1/r)"}[initialisation])
        for axes in grid[-1]:
            axes.set_xlabel("rank")
        grid[0][0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
