"""Section 8.1: the best term of rank r, terms that are trained, and how much of a real update any term can hold."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.theory.finding import Finding, carry_out
from experiments.theory.trained import Update, adapter_updates, full_updates, identity, score, train
from lightning_lora.analysis import (
    balanced_factors,
    completion_measurements,
    descend,
    energy_kept,
    energy_rank,
    least_error,
    seen_along,
)
from lightning_lora.reporting.plots.style import INK, SERIES, new_figure, styled

RANK = 8
SCALE = 2.0
ROWS, COLUMNS = 24, 16
EARLY, LATE = 30, 20_000
ROLES = ("query", "key", "value", "output", "up", "down")


def exact(seed: int = 0) -> dict[str, float]:
    """On a Gaussian matrix: the error over the bound, of the best factors, of another basis, of a scale left out."""
    generator = torch.Generator().manual_seed(seed)
    M = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    R = torch.randn(RANK, RANK, generator=generator, dtype=torch.float64)
    best, plain = balanced_factors(M, RANK, SCALE), balanced_factors(M, RANK)
    bound = least_error(torch.linalg.svdvals(M), RANK)

    def over_bound(X: Tensor) -> float:
        return float((M - X).norm()) / bound

    return {
        "best": over_bound(SCALE * best.B @ best.A),
        "other_basis": over_bound(SCALE * (best.B @ R) @ torch.linalg.solve(R, best.A)),
        "scale_left_out": over_bound(SCALE * plain.B @ plain.A),
        **{name: over_bound(descended(M, steps, generator)) for name, steps in (("early", EARLY), ("late", LATE))},
    }


def descended(M: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """``s B A`` after so many steps of gradient descent on ``½ ||M − s B A||²`` from B = 0; s is taken into A."""
    seen = completion_measurements(torch.ones(M.shape, dtype=torch.bool))
    A = SCALE * torch.randn(1, 1, RANK, COLUMNS, generator=generator, dtype=torch.float64) / RANK**0.5
    B = torch.zeros(1, 1, ROWS, RANK, dtype=torch.float64)
    return descend(seen[None], M.flatten()[None], A, B, lr=0.02, steps=steps).product[0, 0]


def by_role(full: dict[str, Update], lora: dict[str, Update]) -> dict[str, Any]:
    """For each role, over its layers: the energy curve of the full update, and the trained term beside it."""
    found: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    for name, update in full.items():
        D, L = update.delta, lora[name].delta
        values = torch.linalg.svdvals(D)
        kept = energy_kept(values)
        row = found[update.role]
        row["kept"].append(kept.tolist())
        row["rank90"].append(energy_rank(values.tolist(), 0.9))
        row["error_over_bound"].append(float((D - L).norm()) / least_error(values, RANK))
        row["norm_over_full"].append(float(L.norm() / D.norm()))
        row["cosine"].append(float((D * L).sum() / (D.norm() * L.norm())))
        row["share_in_top"].append(float(seen_along(L, D, RANK) / L.norm()) ** 2)
        # What random spaces of that many dimensions would hold of any matrix.
        row["share_by_chance"].append(RANK**2 / D.numel())
        row["full_over_weight"].append(float(D.norm() / update.weight.norm()))
    return {role: dict(found[role]) for role in ROLES if role in found}


def measure(quick: bool) -> dict[str, Any]:
    full = train("full", ["lora=full", "lr=1e-4", "merge.save=true"], quick)
    lora = train("rank8", ["lora=all", f"rank={RANK}", "lr=1e-3", "seed=0"], quick)
    trained = adapter_updates(lora)
    return {
        "exact": exact(),
        "scores": {"full": score(full), "lora": score(lora)},
        "runs": {"full": identity(full), "lora": identity(lora)},
        "where": "the toy task" if quick else "MRPC",
        "model": "the embedded encoder" if quick else "all-MiniLM-L6-v2",
        "roles": by_role(full_updates(full, trained), trained),
    }


def table(data: dict[str, Any]) -> str:
    head = (
        f"| role | energy a term of rank {RANK} can hold | rank for 90 % | norm of LoRA's ΔW over full's "
        f"| cosine of the two | share of LoRA's energy in full's top {RANK} | by chance | error over the bound |"
    )
    lines = [head, "|---" + "|---:" * 7 + "|"]
    for role, row in data["roles"].items():
        held = 100 * np.mean([kept[RANK - 1] for kept in row["kept"]])
        means = {key: np.mean(row[key]) for key in row if key != "kept"}
        lines.append(
            f"| {role} | {held:.0f} % | {means['rank90']:.0f} of {len(row['kept'][0])} "
            f"| {means['norm_over_full']:.1f} | {means['cosine']:.2f} | {100 * means['share_in_top']:.1f} % "
            f"| {100 * means['share_by_chance']:.2f} % | {means['error_over_bound']:.1f} |"
        )
    return "\n".join(lines)


def findings(data: dict[str, Any]) -> list[Finding]:
    ratios = data["exact"]
    errors = [ratio for row in data["roles"].values() for ratio in row["error_over_bound"]]
    held = [100 * np.mean([kept[RANK - 1] for kept in row["kept"]]) for row in data["roles"].values()]
    needed = [np.mean(row["rank90"]) for row in data["roles"].values()]
    sides = [len(row["kept"][0]) for row in data["roles"].values()]
    # The verdict's conditions: equal for the best, above for all others.
    assert max(abs(ratios[name] - 1) for name in ("best", "other_basis")) < 1e-9
    assert min(ratios["scale_left_out"], ratios["early"], *errors) > 1 + 1e-3
    return [
        Finding(
            section="8.1",
            title="best approximation of rank r",
            claim="The best B A of rank r is within sqrt(Σ_{k>r} σ_k²) of the best update ΔW*, with B = U√Σ and "
            "A = √ΣVᵀ.",
            holds_as="For the best B A it is an equality, and for every other one a lower bound: what is trained lies "
            "above. The scale α/r belongs into the factors, √(Σ/s) each; any B R and R⁻¹ A are as good. It says "
            "nothing of where training ends. Nor is the update of full fine-tuning of low rank, as 1.1 takes it to be: "
            f"here rank {RANK} can hold {min(held):.0f} to {max(held):.0f} % of a role's energy, and 90 % take ranks "
            f"{min(needed):.0f} to {max(needed):.0f} of {max(sides)}.",
            verdict="holds with conditions",
            measured=f"Error over the bound at rank {RANK} of a Gaussian matrix, {ROWS} × {COLUMNS}: "
            f"|best − 1| = {abs(ratios['best'] - 1):.0e}, in another basis {abs(ratios['other_basis'] - 1):.0e}; "
            f"{ratios['scale_left_out']:.2f} with s = {SCALE:.0f} left out of the factors; {ratios['early']:.2f} after "
            f"{EARLY} steps of gradient descent from LoRA's start, {ratios['late']:.6f} after {LATE:,}.\n\n"
            f"Real updates, {data['model']} on {data['where']}: all weights trained (score "
            f"{data['scores']['full']:.3f}) against LoRA of rank {RANK} on all projections "
            f"({data['scores']['lora']:.3f}), one seed; means over the blocks. LoRA's term is no approximation of the "
            f"full update: its error is {min(errors):.1f} to {max(errors):.1f} times the bound.\n\n{table(data)}",
        )
    ]


def plot(data: dict[str, Any]) -> Figure:
    """Energy kept over the rank, mean over blocks, a panel for attention and one for feed-forward."""
    marks, lines = ("o", "s", "^", "D"), ("-", "--", "-.", ":")
    with styled():
        figure = new_figure(3.4)
        panels = figure.subplots(1, 2, sharey=True, sharex=True)
        groups = (("attention", ROLES[:4]), ("feed-forward", ROLES[4:]))
        for axes, (title, roles) in zip(panels, groups, strict=True):
            for number, role in enumerate(role for role in roles if role in data["roles"]):
                kept = 100 * np.array(data["roles"][role]["kept"])
                ranks = np.arange(1, kept.shape[1] + 1)
                shown = sorted({int(rank) - 1 for rank in np.geomspace(1, len(ranks), 10 + number)})
                colour = SERIES[number]
                axes.plot(
                    ranks, kept.mean(0), lines[number], color=colour, marker=marks[number], markevery=shown, label=role
                )
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.axhline(90, color=INK, linewidth=0.6, label="90 %")
            axes.set_title(f"{title}: mean over {kept.shape[0]} blocks")
            axes.set_xlabel("rank of the best term")
            axes.legend(frameon=False, handlelength=4)
        panels[0].set_ylabel("share of ||ΔW||² held, %")
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
