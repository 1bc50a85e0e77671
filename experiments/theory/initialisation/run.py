"""Sections 4.1, 4.2 and 8.3: how the factors are drawn, what ΔW is at the start, and the gradient of A."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from experiments.theory.finding import Finding, carry_out
from lightning_lora.analysis import (
    Moments,
    initial_moments,
    output_variance,
    product_moments,
    weight_gradient,
)
from lightning_lora.backbone import load_backbone
from lightning_lora.inject import disabled, inject_adapter
from lightning_lora.lora import INITIALISATIONS, LoRALinear, LoraSpec, Routing
from lightning_lora.reporting.plots.style import MUTED, SERIES, new_figure, styled
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import TASKS

IN, RANKS = 4096, (1, 4, 16, 64)
WIDTH, ROWS, RANK = 256, 64, 16
RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
DRAWS = 50_000
SCHEMES = {
    "gaussian": "document's text, N(0, 1/r)",
    "peft_gaussian": "PEFT, gaussian",
    "kaiming": "Kaiming, document's code",
}


def drawn(scheme: str, rank: int) -> Tensor:
    """An A (rank, IN) as it is before training; PEFT's is drawn by the real PEFT."""
    torch.manual_seed(rank)
    if scheme != "peft_gaussian":
        A, B = torch.empty(rank, IN), torch.empty(8, rank)
        INITIALISATIONS[scheme](A, B)
        return A
    config = LoraConfig(r=rank, target_modules=["0"], init_lora_weights="gaussian")
    peer = get_peft_model(nn.Sequential(nn.Linear(IN, 8)), config)
    (factor,) = [parameter for name, parameter in peer.named_parameters() if "lora_A" in name]
    return factor.detach()


def spread(scheme: str, rank: int) -> dict[str, Any]:
    """The drawn standard deviation beside the derived one and its 99.9 % bounds."""
    A, moments = drawn(scheme, rank), initial_moments(scheme, rank, IN)
    low, high = moments.mean_square_bounds(A.numel())
    mean_square = float(A.double().square().mean())
    return {
        "scheme": scheme,
        "rank": rank,
        "std": math.sqrt(mean_square),
        "derived": moments.std,
        "bounds": [math.sqrt(low), math.sqrt(high)],
        "within": low < mean_square < high,
    }


@torch.no_grad()
def starts_as_the_base(initialisation: str) -> bool:
    """Whether the embedded encoder, adapted everywhere, gives the base model's logits bit for bit, with ΔW = 0."""
    backbone = load_backbone("tiny", TASKS["sst2"])
    model: Any = backbone.model.eval()
    spec = LoraSpec(8, initialisation=initialisation)
    inject_adapter(model, spec, roles=ROLE_SETS["all"], new_parameters=backbone.new_parameters)
    batch = backbone.tokenizer(["a first sentence", "and another one"], return_tensors="pt", padding=True)
    adapted = model(**batch).logits
    with disabled(model):
        base = model(**batch).logits
    layers = [module for module in model.modules() if isinstance(module, LoRALinear)]
    return torch.equal(adapted, base) and not any(layer.adapters["default"].weight().any() for layer in layers)


def first_gradients(lr: float, rank: int, alpha: float) -> dict[str, float]:
    """Root mean square of the entries of dL/dA before and after one step of SGD, and its derived size after it."""
    torch.manual_seed(0)
    base = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)
    x = torch.randn(ROWS, WIDTH, dtype=torch.float64)
    y = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)(x).detach()
    layer = LoRALinear.adopt(base, Routing("default"))
    delta = layer.add_adapter("default", LoraSpec(rank, alpha, initialisation="gaussian", dtype=torch.float64))
    optimizer = torch.optim.SGD(delta.parameters(), lr=lr)
    found = {"lr": lr, "rank": rank, "scale": delta.scale}
    for moment in ("before", "after"):
        optimizer.zero_grad()
        h = layer(x)
        ((h - y).square().sum() / (2 * ROWS)).backward()
        found[moment] = float(delta.A.grad.square().mean().sqrt())
        if moment == "before":
            G = weight_gradient((h.detach() - y) / ROWS, x)
            optimizer.step()
    # B = −lr s G Aᵀ, so dL/dA = −lr s² A Gᵀ G to first order in lr.
    variance = initial_moments("gaussian", rank, WIDTH).variance
    found["derived"] = lr * found["scale"] ** 2 * math.sqrt(variance / WIDTH) * float((G.T @ G).norm())
    return found


def products(input_mean_square: float) -> dict[str, float]:
    """Mean squares of an entry of B A and of B A x, over fresh factors and inputs, beside what is derived."""
    generator = torch.Generator().manual_seed(0)
    rank, width = 8, 32
    A, B = Moments(1 / rank), Moments(4.0)
    a = torch.randn(DRAWS, rank, width, generator=generator) * A.std
    b = torch.randn(DRAWS, rank, generator=generator) * B.std
    x = torch.randn(DRAWS, width, generator=generator) * math.sqrt(input_mean_square)
    rows = torch.einsum("nr,nrk->nk", b, a)
    outputs = (rows * x).sum(dim=1).double().square()
    moments = product_moments(rank, A, B)
    low, high = moments.mean_square_bounds(DRAWS)
    return {
        "input_mean_square": input_mean_square,
        "entry": float(rows[:, 0].double().square().mean()),
        "entry_derived": moments.variance,
        "entry_bounds": [low, high],
        "entry_document": moments.variance * input_mean_square,
        "output": float(outputs.mean()),
        "output_error": float(outputs.std()) / math.sqrt(DRAWS),
        "output_derived": output_variance(rank, width, A, B, input_mean_square),
    }


def measure(quick: bool) -> dict[str, Any]:
    """Nothing here takes long: the quick version is the whole."""
    by_rate = [first_gradients(lr, RANK, alpha=RANK) for lr in RATES]
    return {
        "spreads": [spread(scheme, rank) for scheme in SCHEMES for rank in RANKS],
        "starts_as_the_base": {name: starts_as_the_base(name) for name in INITIALISATIONS},
        "by_rate": by_rate,
        "slopes": [math.log10(high["after"] / low["after"]) for low, high in pairwise(by_rate)],
        "by_rank": [first_gradients(1e-3, rank, alpha=rank) for rank in RANKS],
        "products": [products(mean_square) for mean_square in (0.25, 4.0)],
    }


def findings(data: dict[str, Any]) -> list[Finding]:
    return [of_the_start(data), of_the_conventions(data), of_the_product(data), *of_the_lemma(data)]


def of_the_start(data: dict[str, Any]) -> Finding:
    starts = data["starts_as_the_base"]
    return Finding(
        "4.1",
        "the start at B = 0",
        "With A drawn and B = 0, ΔW is 0 and training starts from the pretrained model.",
        "As stated, with every initialisation that leaves B at 0. A head that the checkpoint lacks is not pretrained.",
        "holds" if all(starts.values()) else "false",
        f"The embedded encoder, adapted in all its projections at rank 8 with {' and with '.join(starts)}: every ΔW is "
        f"exactly 0, and the logits are those of the base model, bit for bit, in {sum(starts.values())} of "
        f"{len(starts)} cases.",
    )


def of_the_conventions(data: dict[str, Any]) -> Finding:
    spreads = data["spreads"]
    assert all(one["within"] for one in spreads)
    lines = ["| A at " + f"{IN} inputs | derived | " + " | ".join(f"r = {rank}" for rank in RANKS) + " |"]
    lines.append("|---|---|" + "---:|" * len(RANKS))
    derived = {"gaussian": "1/√r", "peft_gaussian": "1/r", "kaiming": "1/√(3 k)"}
    for scheme, title in SCHEMES.items():
        stds = [f"{one['std']:.4g}" for one in spreads if one["scheme"] == scheme]
        lines.append(f"| {title} | {derived[scheme]} | {' | '.join(stds)} |")
    at_16 = {one["scheme"]: one["std"] for one in spreads if one["rank"] == RANK}
    return Finding(
        "4.2",
        "the variance of A",
        "Kaiming's analysis gives Var(A) = 1/r, and the code draws A by Kaiming's rule.",
        "Kaiming's rule looks at the inputs: with a = √5, as in the code, Var(A) = 1/(3 k) at every rank. N(0, 1/r) is "
        "another choice, and PEFT's scheme of the name gaussian, with the standard deviation 1/r, a third.",
        "false",
        f"Standard deviations of A, each mean square within its 99.9 % bounds of the derived one; at r = {RANK} the "
        f"document's text and its code are {at_16['gaussian'] / at_16['kaiming']:.1f} times apart, its text and the "
        f"real PEFT {at_16['gaussian'] / at_16['peft_gaussian']:.2f} times:\n\n" + "\n".join(lines),
    )


def of_the_product(data: dict[str, Any]) -> Finding:
    lines = [
        "| E[x²] | mean square of (B A)_ij | r Var(B) Var(A) | with E[x²] | of (B A x)_i | k r Var(B) Var(A) E[x²] |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for one in data["products"]:
        low, high = one["entry_bounds"]
        assert low < one["entry"] < high
        assert not low < one["entry_document"] < high
        assert abs(one["output"] - one["output_derived"]) < 4 * one["output_error"]
        lines.append(
            f"| {one['input_mean_square']:g} | {one['entry']:.3f} | {one['entry_derived']:g} | "
            f"{one['entry_document']:g} | {one['output']:.1f} | {one['output_derived']:g} |"
        )
    return Finding(
        "4.2",
        "the variance of a product",
        "Var((B A)_ij) = r Var(B) Var(A) E[x²].",
        "Var((B A)_ij) = r Var(B) Var(A): there is no input in a weight. Of an output it is "
        "Var((B A x)_i) = k r Var(B) Var(A) E[x²], with the number of inputs k besides.",
        "false",
        f"Over {DRAWS:,} independent draws (r = 8, k = 32, Var(A) = 1/8, Var(B) = 4), within the 99.9 % bounds and "
        "four standard errors:\n\n" + "\n".join(lines),
    )


def of_the_lemma(data: dict[str, Any]) -> list[Finding]:
    by_rate, slopes, by_rank = data["by_rate"], data["slopes"], data["by_rank"]
    assert all(one["before"] == 0 for one in by_rate + by_rank)
    assert abs(slopes[0] - 1) < 1e-3
    starts = data["starts_as_the_base"]
    rows = ["| lr | std of dL/dA at step 0 | at step 1 | lr s² σ ‖GᵀG‖ / √k |", "|---:|---:|---:|---:|"]
    rows += [f"| {one['lr']:.0e} | {one['before']:g} | {one['after']:.2e} | {one['derived']:.2e} |" for one in by_rate]
    spread_of = ", ".join(f"{one['after']:.1e} at r = {one['rank']}" for one in by_rank)
    return [
        Finding(
            "8.3",
            "stability at the start",
            "With A ~ N(0, 1/r) and B = 0, ΔW = 0, and training starts from the pretrained model.",
            "As stated (4.1).",
            "holds" if starts["gaussian"] else "false",
            "See 4.1: every ΔW is 0 and the logits are the base model's, bit for bit.",
        ),
        Finding(
            "8.3",
            "the variance of dL/dA",
            "Var(dL/dA_ij) = O(1), a bounded variance, for α of the order of r.",
            "At the first step dL/dA is exactly 0. At the second, after one of SGD, its standard deviation is "
            "proportional to the learning rate and, with α = r, to 1/√r: Var = lr² s⁴ ‖GᵀG‖² / (r k) to first order. "
            "So it is bounded, as anything that vanishes is; the bound says nothing of its size.",
            "holds with conditions",
            f"α = r = {RANK}, {WIDTH} inputs and outputs, fp64; the slope between neighbouring rates on logarithmic "
            f"axes is {', '.join(f'{slope:.4f}' for slope in slopes)} where one size would have 0. With α = r at "
            f"lr = {by_rank[0]['lr']:g}: {spread_of}.\n\n" + "\n".join(rows),
        ),
    ]


def plot(data: dict[str, Any]) -> Figure:
    """Left, three conventions for A; right, dL/dA after one step. Marks are measured, lines are derived."""
    with styled():
        figure = new_figure(2.9)
        left, right = figure.subplots(1, 2)
        for (scheme, title), colour, marker, dashes in zip(
            SCHEMES.items(), SERIES, "os^", ("-", "--", ":"), strict=False
        ):
            shown = [one for one in data["spreads"] if one["scheme"] == scheme]
            left.plot(RANKS, [one["derived"] for one in shown], color=colour, linestyle=dashes, linewidth=1.1)
            left.plot(RANKS, [one["std"] for one in shown], color=colour, linestyle="", marker=marker, label=title)
        left.set_title(f"A as it is drawn, {IN} inputs")
        left.set_xscale("log", base=2)
        left.set_xticks(RANKS, [str(rank) for rank in RANKS])
        left.set_xlabel("rank")
        left.set_ylabel("standard deviation of A")
        left.set_ylim(0.005, 40)
        left.legend(frameon=False, fontsize=8, loc="upper right")
        right.plot(RATES, [one["derived"] for one in data["by_rate"]], color=MUTED, linewidth=1.1, label="derived")
        measured = [one["after"] for one in data["by_rate"]]
        right.plot(RATES, measured, color=SERIES[0], linestyle="", marker="o", label="measured")
        right.set_title("dL/dA after one step of SGD")
        right.set_xscale("log")
        right.set_xlabel("learning rate")
        right.set_ylabel("root mean square of its entries")
        right.legend(frameon=False, fontsize=8)
        for axes in (left, right):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        right.xaxis.set_major_formatter("{x:.0e}")
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
