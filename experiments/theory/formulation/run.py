"""Sections 1.1, 1.2, 6.1, 6.2 and the code of 9: adapted and merged, there and back, switching, what trains."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from experiments.theory.finding import Finding, carry_out
from lightning_lora.analysis import forward_rounding_bound
from lightning_lora.inject import count_parameters, eject, inject_adapter, merge, swap_merged, unmerge
from lightning_lora.lora import LoRALinear, LoraSpec, Routing, lora_layers
from lightning_lora.reporting.plots.style import SERIES, new_figure, styled

OUT, IN = 320, 256
RANKS = (1, 2, 4, 8, 16, 32, 64)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CYCLES = (1, 3, 10, 30, 100, 300, 1000)
DEMO_WIDTH = 512


def trained_layer(rank: int, dtype: torch.dtype, factors: torch.dtype) -> LoRALinear:
    """A layer (OUT, IN) whose ΔW is as large as W0 in norm, so that a wrong digit shows."""
    base = nn.Linear(IN, OUT, bias=False, dtype=dtype).requires_grad_(False)
    layer = LoRALinear.adopt(base, Routing("default"))
    delta = layer.add_adapter("default", LoraSpec(rank, dtype=factors))
    nn.init.normal_(delta.B)
    with torch.no_grad():
        delta.B *= float(base.weight.double().norm() / delta.weight().norm())
    return layer


@torch.no_grad()
def forward_at(rank: int) -> dict[str, float]:
    """One layer in fp64: how far merged and adapted outputs lie apart, in the rounding's bound; and the rank of ΔW."""
    layer = trained_layer(rank, torch.float64, torch.float64)
    delta = layer.adapters["default"]
    x = torch.randn(64, IN, dtype=torch.float64)
    adapted = layer(x)
    bound = forward_rounding_bound(x, layer.weight, delta.A, delta.B, delta.scale)
    layer.merge("default")
    difference = (layer(x) - adapted).abs()
    return {
        "rank": rank,
        "of_bound": float((difference / bound).max()),
        "relative": float(difference.max() / adapted.abs().max()),
        "rank_of_delta": int(torch.linalg.matrix_rank(delta.weight())),
    }


@torch.no_grad()
def cycles(dtype: torch.dtype) -> dict[str, Any]:
    """Two adapters in turn, merged and unmerged: by ours, and by adding the fp32 ΔW and subtracting it again."""
    layer = trained_layer(8, dtype, torch.float32)
    before, size = layer.weight.clone(), layer.adapters["default"].weight().norm()
    layer.add_adapter("other", LoraSpec(8)).B.normal_(std=float(layer.adapters["default"].B.std()))
    dense = {name: delta.scale * delta.B @ delta.A for name, delta in layer.adapters.items()}
    weight, changed, errors = before.clone(), [], []
    for cycle in range(1, CYCLES[-1] + 1):
        name = ("default", "other")[cycle % 2]
        weight += dense[name]
        weight -= dense[name]
        layer.routing.adapter = name
        layer.merge(name)
        layer.unmerge()
        if cycle in CYCLES:
            changed.append(float((weight != before).double().mean()))
            errors.append(float((weight.double() - before.double()).norm() / size))
    return {"changed": changed, "errors": errors, "ours_equal": torch.equal(layer.weight, before)}


@torch.no_grad()
def operations() -> dict[str, int]:
    """Floating-point operations of one forward: base, adapted, merged."""
    layer, x = trained_layer(8, torch.float32, torch.float32), torch.randn(64, IN)
    base = nn.Linear(IN, OUT, bias=False)
    counted = {"base": _operations_of(base, x), "adapted": _operations_of(layer, x)}
    layer.merge("default")
    return counted | {"merged": _operations_of(layer, x)}


def _operations_of(module: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(x)
    return int(counter.get_total_flops())


class Block(nn.Module):
    """The six projections of a transformer block, as wide as the document's example."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            self.add_module(name, nn.Linear(width, width))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


def demo() -> dict[str, Any]:
    """What trains where only the wrapped layers' weights are frozen, as in the document's code, and with ours."""
    totals = {}
    for name in ("document", "ours"):
        model = Block(DEMO_WIDTH)
        targets = ["q_proj", "v_proj"]
        inject_adapter(model, LoraSpec(16), modules=targets)
        if name == "document":
            wrapped = [model.get_submodule(target) for target in targets]
            frozen = {id(parameter) for layer in wrapped for parameter in (layer.weight, layer.bias)}
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) not in frozen)
        counted = count_parameters(model)
        totals[name] = counted.as_dict() | {"trainable": counted.trainable}
    return totals


def switching() -> list[dict[str, Any]]:
    """Bytes in fp32 of all ΔW and of all A and B: a RoBERTa-base without values, query and value."""
    config = AutoConfig.for_model("roberta", vocab_size=50265, max_position_embeddings=514)
    found = []
    for rank in (1, 8, 64):
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        report = inject_adapter(model, LoraSpec(rank))
        dense = sum(module.in_features * module.out_features for module in report.modules)
        found.append({"rank": rank, "delta_bytes": 4 * dense, "factor_bytes": 4 * report.totals.adapter})
    return found


@torch.no_grad()
def swaps_exactly(count: int) -> bool:
    """Whether two adapters swapped under the merge, again and again, leave the same merged and base weights."""
    model = nn.Sequential(nn.Linear(IN, OUT).bfloat16())
    for name in ("first", "second"):
        inject_adapter(model, LoraSpec(8), modules=["0"], adapter=name)
        nn.init.normal_(model[0].adapters[name].B)
    base = model[0].weight.clone()
    merge(model, "first")
    merged = model[0].weight.clone()
    for _ in range(count):
        swap_merged(model, "second")
        swap_merged(model, "first")
    same = torch.equal(model[0].weight, merged)
    unmerge(model)
    return same and torch.equal(model[0].weight, base)


@torch.no_grad()
def ejects_to_base_keys() -> bool:
    """Whether a merged model, ejected, is a plain module with the base model's own state-dict keys."""
    model = nn.Sequential(nn.Linear(IN, OUT))
    keys = list(model.state_dict())
    inject_adapter(model, LoraSpec(8), modules=["0"])
    merge(model)
    return list(eject(model).state_dict()) == keys and not list(lora_layers(model)) and type(model[0]) is nn.Linear


def measure(quick: bool) -> dict[str, Any]:
    """Nothing here takes long: the quick version is the whole."""
    torch.manual_seed(0)
    return {
        "forward": [forward_at(rank) for rank in RANKS],
        "drift": {name: cycles(dtype) for name, dtype in DTYPES.items()},
        "operations": operations(),
        "plain_after_eject": ejects_to_base_keys(),
        "switching": switching(),
        "swaps_exactly": swaps_exactly(CYCLES[-1]),
        "demo": demo(),
    }


def findings(data: dict[str, Any]) -> list[Finding]:
    return [*of_the_formula(data), *of_merging(data), of_the_code(data["demo"])]


def of_the_formula(data: dict[str, Any]) -> list[Finding]:
    forward = data["forward"]
    ranks_hold = all(one["rank_of_delta"] <= one["rank"] for one in forward)
    within = all(one["of_bound"] <= 1 for one in forward)
    assert ranks_hold
    largest = max(forward, key=lambda one: one["of_bound"])
    return [
        Finding(
            "1.1",
            "the update as a product",
            "The update of a weight is a product of two narrow factors, and so of low rank.",
            "ΔW = s B A has at most the rank r. That the update of full fine-tuning is of low rank is a hypothesis "
            "that this does not test; 8.1 does, on one task, and finds otherwise.",
            "holds with conditions",
            f"The numerical rank of ΔW ({OUT} × {IN}, fp64) for r = {', '.join(str(one['rank']) for one in forward)}: "
            f"{', '.join(str(one['rank_of_delta']) for one in forward)}.",
        ),
        Finding(
            "1.2",
            "the forward pass",
            "W0 x + (α/r) B A x is (W0 + (α/r) B A) x.",
            "As stated, up to rounding; which of the two is computed decides about the last digits.",
            "holds" if within else "false",
            f"In fp64, at ranks from {forward[0]['rank']} to {forward[-1]['rank']}, the two differ by at most "
            f"{max(one['relative'] for one in forward):.1e} of the largest output, and nowhere by more than "
            f"{largest['of_bound']:.4f} of the bound that holds for rounding alone.",
        ),
    ]


def of_merging(data: dict[str, Any]) -> list[Finding]:
    drift, operations, switching = data["drift"], data["operations"], data["switching"]
    assert data["plain_after_eject"]
    assert operations["merged"] == operations["base"]
    assert all(found["ours_equal"] for found in drift.values())
    assert all(found["changed"][0] > 0 for found in drift.values())
    assert data["swaps_exactly"]
    changed = ", ".join(f"{name} {100 * found['changed'][0]:.1f} %" for name, found in drift.items())
    errors = ", ".join(f"{name} {found['errors'][0]:.1e}" for name, found in drift.items())
    last = ", ".join(
        f"{name} {100 * found['changed'][-1]:.1f} % and {found['errors'][-1]:.1e}" for name, found in drift.items()
    )
    at_8 = next(one for one in switching if one["rank"] == 8)
    sizes = ", ".join(
        f"{one['factor_bytes'] / 1e6:.2f} MB at r = {one['rank']} (a factor of "
        f"{one['delta_bytes'] / one['factor_bytes']:.0f})"
        for one in switching
    )
    return [
        Finding(
            "6.1",
            "merging and taking it back",
            "A merged weight costs nothing at inference, and the adapter can be taken out again to put in another.",
            "The merged layer is a plain layer again. Taking the adapter out by subtracting ΔW does not give W0, "
            "because the sum was rounded; keeping W0 does.",
            "holds with conditions",
            f"Operations of one forward at rank 8: base {operations['base']:,}, adapted {operations['adapted']:,}, "
            f"merged {operations['merged']:,}. Weights that differ after one merge and subtraction: {changed}; in the "
            f"norm of ΔW: {errors}. After {CYCLES[-1]:,}, two adapters in turn: {last}. Ours: none, bit for bit.",
        ),
        Finding(
            "6.2",
            "switching tasks",
            "To switch tasks one swaps ΔW, which is small.",
            "A and B are small. ΔW is as large as the weights it is added to.",
            "false",
            f"RoBERTa-base, query and value, fp32: all ΔW take {at_8['delta_bytes'] / 1e6:.1f} MB at every rank; A "
            f"and B take {sizes}. Swapping two merged adapters {CYCLES[-1]:,} times, each made anew of W0, A and "
            "B, leaves the merged and the base weights as they were, bit for bit.",
        ),
    ]


def of_the_code(demo: dict[str, Any]) -> Finding:
    document, ours = demo["document"], demo["ours"]
    return Finding(
        "9",
        "what the code trains",
        "Only the low-rank factors train.",
        "Everything but them has to be frozen. The document's code freezes the weights of the layers that it wraps, "
        "and so the rest of the model trains in full.",
        "holds" if document["trainable"] == ours["trainable"] else "false",
        f"Six projections {DEMO_WIDTH} wide, query and value adapted at rank 16: {document['trainable']:,} of "
        f"{document['total']:,} parameters train where the wrapped layers alone are frozen "
        f"({document['trainable_percent']:.2f} %), and {ours['trainable']:,} after our injection "
        f"({ours['trainable_percent']:.2f} %), which are the factors.",
    )


def plot(data: dict[str, Any]) -> Figure:
    """Left, adapted against merged beside what rounding allows; right, what subtracting leaves."""
    forward, epsilon = data["forward"], torch.finfo(torch.float64).eps
    with styled():
        figure = new_figure(2.9)
        left, right = figure.subplots(1, 2)
        left.plot(RANKS, [one["relative"] / epsilon for one in forward], color=SERIES[0], marker="o")
        left.set_title("merged against adapted, fp64")
        left.set_xscale("log", base=2)
        left.set_xticks(RANKS, [str(rank) for rank in RANKS])
        left.set_ylim(0, 1.15 * max(one["relative"] for one in forward) / epsilon)
        left.set_xlabel("rank")
        left.set_ylabel("largest difference / largest output\n(units of 2.2e-16)")
        for (name, found), colour, marker in zip(data["drift"].items(), SERIES, "os^", strict=False):
            right.plot(CYCLES, found["errors"], color=colour, marker=marker, label=name)
        right.set_title("W0 after adding ΔW and subtracting it")
        right.set_xscale("log")
        right.set_yscale("log")
        right.xaxis.set_major_formatter("{x:g}")
        right.yaxis.set_major_formatter("{x:.0e}")
        right.set_xlabel("cycles, two adapters in turn")
        right.set_ylabel("error / norm of ΔW")
        right.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
