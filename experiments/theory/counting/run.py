"""Sections 2.1 to 2.3: what an adapter's share is of one projection and of real models, counted in three ways."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    LlamaConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from experiments.theory.finding import Finding, carry_out
from lightning_lora.analysis import AdapterCount, count_adapter
from lightning_lora.inject import inject_adapter, select
from lightning_lora.lora import LoraSpec
from lightning_lora.reporting.plots.style import MUTED, SERIES, new_panels, styled
from lightning_lora.targets import ROLE_SETS

CHOICES, RANKS = ("qv", "qkvo", "all"), (8, 16)
PLOT_RANKS = (1, 2, 4, 8, 16, 32, 64)
_ROBERTA: dict[str, Any] = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}

# Sizes as published: Liu et al. 2019 (arXiv 1907.11692, table 9) and fairseq's vocabulary; He et al. 2021 (arXiv
# 2111.09543, table 2) and its model card; Llama Team 2024 (arXiv 2407.21783, table 3), vocabulary of its tokenizer.
SHAPES: dict[str, PreTrainedConfig] = {
    "RoBERTa-base": RobertaConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, **_ROBERTA
    ),
    "RoBERTa-large": RobertaConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, **_ROBERTA
    ),
    "DeBERTa-v3-base": DebertaV2Config(
        vocab_size=128100,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=256,
        position_biased_input=False,
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
    ),
    "Llama-3-8B": LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        pad_token_id=0,
    ),
}
# By these endings of a name PEFT knows the modules that it copies for a sequence classifier.
COPIED_BY_PEFT = ("classifier", "score")


def on_meta(name: str) -> tuple[nn.Module, list[str]]:
    """A classifier of two classes without values, and the names of what its checkpoint lacks: its head."""
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(SHAPES[name])
    return model, [key for key, _ in model.named_parameters() if not key.startswith(f"{model.base_model_prefix}.")]


def peft_counts(name: str, choice: str, rank: int) -> tuple[int, int]:
    """What the real PEFT says trains, and is there, for the same layers."""
    model, new = on_meta(name)
    targets = [selected.name for selected in select(model, roles=ROLE_SETS[choice], new_parameters=new)]
    peer = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=rank, target_modules=targets))
    trainable, total = peer.get_nb_trainable_parameters()
    return trainable, total


def injected(name: str, choice: str, rank: int) -> int:
    """Adapter parameters after the injection itself."""
    model, new = on_meta(name)
    return inject_adapter(model, LoraSpec(rank), roles=ROLE_SETS[choice], new_parameters=new).totals.adapter


def row(name: str, choice: str, rank: int, model: nn.Module, new: list[str]) -> dict[str, Any]:
    """One line of the table; the counts of PEFT and of injection beside those worked out."""
    counted = count_adapter(model, rank, ROLE_SETS[choice], new)
    copied = sum(model.get_parameter(key).numel() for key in new if key.split(".")[0].endswith(COPIED_BY_PEFT))
    return {
        "model": name,
        "choice": choice,
        "rank": rank,
        **shares(counted),
        "shapes": [f"{kind.layers} x {kind.out_features} x {kind.in_features}" for kind in counted.kinds],
        "injected": injected(name, choice, rank),
        "peft": peft_counts(name, choice, rank),
        "peft_worked_out": counted.as_peft_counts(copied),
    }


def shares(counted: AdapterCount) -> dict[str, float]:
    """The counts and their quotients."""
    names = ("adapter", "head", "base", "adapted_weights", "reduction", "reduction_of_model")
    return {name: getattr(counted, name) for name in (*names, "percent_adapter_only", "percent_with_head")}


def measure(quick: bool) -> dict[str, Any]:
    """Nothing here takes long: the quick version is the whole."""
    models = {name: on_meta(name) for name in SHAPES}
    rows = [
        row(name, choice, rank, model, new)
        for name, (model, new) in models.items()
        for choice in CHOICES
        for rank in RANKS
    ]
    curves = {
        choice: {
            name: [count_adapter(model, rank, ROLE_SETS[choice], new).percent_adapter_only for rank in PLOT_RANKS]
            for name, (model, new) in models.items()
        }
        for choice in ("qv", "all")
    }
    reduction = 4096 * 4096 / (16 * (4096 + 4096))
    example = {"reduction": reduction, "percent": 100 / reduction}
    return {"rows": rows, "curves": curves, "example": example}


def findings(data: dict[str, Any]) -> list[Finding]:
    rows, example = data["rows"], data["example"]
    equal = [line["injected"] == line["adapter"] for line in rows]
    as_peft = [line["peft"] == line["peft_worked_out"] for line in rows]
    assert all(as_peft), "PEFT counts otherwise than written here"
    llama = next(line for line in rows if (line["model"], line["choice"], line["rank"]) == ("Llama-3-8B", "qv", 16))
    base = next(line for line in rows if (line["model"], line["choice"], line["rank"]) == ("RoBERTa-base", "qv", 8))
    assert example == {"reduction": 128.0, "percent": 0.78125}
    return [
        Finding(
            "2.1",
            "the number of parameters",
            "A term on a d × k projection has r (d + k) parameters where the projection has d k.",
            "As stated, for each adapted projection and each adapted part of a fused one.",
            "holds" if all(equal) else "false",
            f"The sum over all projections is the number of parameters after injection in {sum(equal)} of "
            f"{len(equal)} cases: four models, three choices of layers, two ranks.\n\n{table_of_models(rows)}",
        ),
        Finding(
            "2.2",
            "the reduction of a square projection",
            "For d = k the reduction is d / (2 r): 128 times at d = 4096 and r = 16.",
            "The arithmetic is right for one square projection. A model's factor is another: projections are not all "
            "square, and most of a model is not adapted.",
            "holds with conditions",
            f"{example['reduction']:.0f} times for one such projection. Llama-3-8B is 4096 wide; with query and value "
            f"at rank 16 its adapted projections ({', '.join(llama['shapes'])}) shrink {llama['reduction']:.1f} times, "
            f"because values have eight heads for 32 of the queries, and the model {llama['reduction_of_model']:,.0f} "
            "times.",
        ),
        Finding(
            "2.3",
            "the share of the original parameters",
            "The adapter has r/k + r/d of the original parameters: 0.78 % at d = k = 4096, r = 16.",
            "Of one adapted projection. Of a model it is a fraction of that, and it depends on whether the head "
            "counts, and how often; a share without that is not comparable.",
            "holds with conditions",
            f"{example['percent']:.3f} % of one projection; of Llama-3-8B {llama['percent_adapter_only']:.3f} %. "
            f"RoBERTa-base with query and value at rank 8 has {base['percent_adapter_only']:.3f} %, with its head "
            f"{base['percent_with_head']:.3f} %, and as PEFT prints it {percent(base['peft']):.3f} %.\n\n"
            f"{table_of_countings(rows)}\n\nPEFT trains a copy of the head and keeps the original in the total; "
            "DeBERTa's pooler, which the checkpoint lacks, it leaves frozen.",
        ),
    ]


def percent(counts: list[int]) -> float:
    trainable, total = counts
    return 100 * trainable / total


def table_of_models(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | layers | rank | adapter | adapted weights | times fewer than these | than the model |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {line['model']} | {line['choice']} | {line['rank']} | {line['adapter']:,} | {line['adapted_weights']:,} | "
        f"{line['reduction']:.1f} | {line['reduction_of_model']:,.0f} |"
        for line in rows
    ]
    return "\n".join(lines)


def table_of_countings(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model, rank 8 | layers | adapter | head | % adapter only | % with head | % as PEFT prints |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {line['model']} | {line['choice']} | {line['adapter']:,} | {line['head']:,} | "
        f"{line['percent_adapter_only']:.3f} | {line['percent_with_head']:.3f} | {percent(line['peft']):.3f} |"
        for line in rows
        if line["rank"] == RANKS[0]
    ]
    return "\n".join(lines)


def plot(data: dict[str, Any]) -> Figure:
    """The adapter's share of the model by rank, a panel for each choice of layers, beside the document's."""
    document = [100 * 2 * rank / 4096 for rank in PLOT_RANKS]
    with styled():
        figure, panels = new_panels(["query and value", "attention and feed-forward"], 2.7)
        for axes, curves in zip(panels, data["curves"].values(), strict=True):
            axes.plot(PLOT_RANKS, document, color=MUTED, linestyle=":", label="one 4096 × 4096 projection")
            for (name, shares), colour, marker in zip(curves.items(), SERIES, "os^D", strict=True):
                axes.plot(PLOT_RANKS, shares, color=colour, marker=marker, markersize=4, linewidth=1.1, label=name)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(PLOT_RANKS, [str(rank) for rank in PLOT_RANKS])
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("rank")
        panels[0].set_ylabel("adapter parameters, % of the checkpoint's")
        panels[1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
