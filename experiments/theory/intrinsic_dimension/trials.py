"""Training in the whole space, in a random subspace, with LoRA or of the head alone, in one recipe; and the search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lightning import Trainer, seed_everything

from lightning_lora.analysis import RandomSubspace, Trial, smallest_reaching
from lightning_lora.backbone import load_backbone
from lightning_lora.data import TextDataModule
from lightning_lora.inject import inject_adapter, train_baseline
from lightning_lora.lora import LoraSpec, use_cheap_dropout
from lightning_lora.tasks import find_task
from lightning_lora.training import LoRAClassifier, OptimSettings, optimizer_steps, quiet_lightning

Method = Literal["head", "full", "direct", "structured", "lora"]
SHARE = 0.9


@dataclass(frozen=True)
class Recipe:
    """What all methods of one comparison have in common, and the learning rates that they do not.

    Attributes:
        model: As `load_backbone` takes it.
        task: Name of the task.
        path: Folder of its data; None for generated data.
        train_rows: Size of the training subset; None for all.
        epochs: Passes over it.
        batch_size: Rows.
        lr: Of full fine-tuning, its head included.
        lora_lr: Of A and B.
        head_lr: Of the head beside LoRA, in a subspace, and alone.
        step: Length of a step of Adam in θ at the peak of the schedule: the rate of δ is ``step / √d``, since δ moves
            by up to the rate in each of d entries and the columns of P are nearly orthonormal.
    """

    model: str
    task: str
    path: Path | None
    train_rows: int | None
    epochs: int
    batch_size: int
    lr: float
    lora_lr: float
    head_lr: float
    step: float


@cache
def trained(recipe: Recipe, method: Method, size: int, seed: int) -> dict[str, float]:
    """Train once; ``score`` is the accuracy after the last epoch, not the best of several.

    Accuracy as in arXiv 2012.13255, and since 90 % of it is another demand than 90 % of a correlation.

    Args:
        recipe: What is the same for all.
        method: "direct" and "structured" are random subspaces without and with a scale for each layer.
        size: The dimension, or the rank; without meaning for the head and the whole.
        seed: Of the head, the order of rows, dropout and P.
    """
    quiet_lightning()
    seed_everything(seed, verbose=False)
    task = find_task(recipe.task)
    backbone = load_backbone(recipe.model, task)
    model, new = backbone.model, backbone.new_parameters
    use_cheap_dropout(model)
    data = TextDataModule(
        task,
        backbone.tokenizer,
        path=recipe.path,
        train_rows=recipe.train_rows,
        batch_size=recipe.batch_size,
        seed=seed,
        max_positions=backbone.max_length,
    )
    data.setup()
    if method in ("direct", "structured"):
        model = RandomSubspace(model, size, seed=seed, outside=new, layer_scales=method == "structured")
        new = tuple(f"model.{name}" for name in new)
        settings = OptimSettings(recipe.step / math.sqrt(size), head_lr=recipe.head_lr)
    elif method == "lora":
        inject_adapter(model, LoraSpec(size), new_parameters=new)
        settings = OptimSettings(recipe.lora_lr, head_lr=recipe.head_lr)
    else:
        train_baseline(model, method, new)
        settings = OptimSettings(recipe.lr if method == "full" else recipe.head_lr)
    steps = optimizer_steps(-(-data.train_size // recipe.batch_size), recipe.epochs)
    module = LoRAClassifier(model, data.task, settings, steps, new)
    head = sum(p.numel() for name, p in model.named_parameters() if name in set(new))
    trains = sum(p.numel() for p in model.parameters() if p.requires_grad) - head
    _trainer(recipe).fit(module, data)
    found = module.predictions[data.task.dev_splits[0]]
    accuracy = float((found.logits.argmax(dim=1) == found.labels).double().mean())
    return {"score": accuracy, "trains": trains, "head": head, "steps": steps}


def _trainer(recipe: Recipe) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=recipe.epochs,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def trial(recipe: Recipe, method: Method, size: int, seeds: int) -> Trial:
    """The scores of one size over seeds; printed, since a search takes minutes."""
    found = Trial(size, tuple(trained(recipe, method, size, seed)["score"] for seed in range(seeds)))
    print(f"{recipe.task} {method} {size}: {found.mean:.4f}", flush=True)
    return found


def best_step(recipe: Recipe, method: Method, size: int, seed: int, steps: Sequence[float]) -> float:
    """The step that scores highest with one seed; of equal ones the first."""
    return max(steps, key=lambda step: trained(replace(recipe, step=step), method, size, seed)["score"])


def search(
    recipe: Recipe, grids: dict[Method, Sequence[int]], seeds: int, steps: Sequence[float] = ()
) -> dict[str, Any]:
    """Find by bisection the smallest size of each method that reaches `SHARE` of full fine-tuning.

    Args:
        recipe: Of all trainings.
        grids: Sizes of each method, ascending.
        seeds: Trainings of each size.
        steps: What the step of each size of a subspace is chosen from, with one more seed that is not counted; with
            none it is the recipe's.

    Returns:
        The thresholds ("metric": that share of the score; "gain": the head's score and that share of the gain over
        it), and of each method what `smallest_reaching` found and all that was tried.
    """
    head, full = (trial(recipe, method, 0, seeds) for method in ("head", "full"))
    whole = trained(recipe, "full", 0, 0)
    thresholds = {"metric": SHARE * full.mean, "gain": head.mean + SHARE * (full.mean - head.mean)}
    methods = {}
    for method, grid in grids.items():
        tried: dict[int, dict[str, Any]] = {}

        def scores(size: int, method: Method = method, tried: dict[int, dict[str, Any]] = tried) -> Sequence[float]:
            chosen = recipe
            if steps and method != "lora":
                chosen = replace(recipe, step=best_step(recipe, method, size, seeds, steps))
            one = trial(chosen, method, size, seeds)
            facts = {"mean": one.mean, "scores": one.scores, "trains": trained(chosen, method, size, 0)["trains"]}
            tried[size] = {"size": size, **facts} | ({} if method == "lora" else {"step": chosen.step})
            return one.scores

        reached = {name: vars(smallest_reaching(scores, value, grid)) for name, value in thresholds.items()}
        methods[method] = {"reached": reached, "largest": grid[-1], "tried": [tried[size] for size in sorted(tried)]}
    return {
        "task": recipe.task,
        "model": Path(recipe.model).name,
        "seeds": seeds,
        "steps": whole["steps"],
        "parameters": whole["trains"],
        "head_parameters": whole["head"],
        "head": head.scores,
        "full": full.scores,
        "thresholds": thresholds,
        "methods": methods,
    }
