"""Pretrain the embedded encoder on the toy language by masked words; see README.md beside this file."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertTokenizer
from transformers.utils import logging as transformers_logging

import lightning_lora
from lightning_lora.data.toy import corpus

Text = str | tuple[str, str]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = 48
MASKED_SHARE = 0.15
# Of the words of a second sentence that the first does not hold: they must be inferred, where others can be copied.
MASKED_SHARE_OF_NEWS = 0.4
IGNORED = -100


def build_tokenizer(texts: list[Text]) -> Any:
    """Whole words of the language, most frequent first, then characters for any other word."""
    counts = Counter(word for text in texts for side in _sides(text) for word in side.split())
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    tokens = dict.fromkeys([*SPECIAL, *words, *characters, *(f"##{character}" for character in characters)])
    return BertTokenizer(
        vocab={token: row for row, token in enumerate(tokens)}, do_lower_case=True, model_max_length=128
    )


def build_model(vocabulary: int, arguments: argparse.Namespace) -> BertForMaskedLM:
    """A small BERT with freshly drawn weights."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=4,
        intermediate_size=4 * arguments.width,
        max_position_embeddings=128,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        pad_token_id=0,
    )
    return BertForMaskedLM(config)


def encode(tokenizer: Any, texts: list[Text]) -> dict[str, Tensor]:
    """All texts as one padded table, (texts, `LONGEST`); ``masked_share`` is the chance of each token to be masked."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    shares = torch.full((len(texts), LONGEST), MASKED_SHARE)
    for number, text in enumerate(texts):
        row = tokenizer(*_sides(text), truncation=True, max_length=LONGEST, padding="max_length")
        for name, values in rows.items():
            values.append(row[name])
        ids, second = torch.tensor(row["input_ids"]), torch.tensor(row["token_type_ids"]) == 1
        shares[number, second & ~torch.isin(ids, ids[~second])] = MASKED_SHARE_OF_NEWS
    table = {name: torch.tensor(values) for name, values in rows.items()}
    return {**table, "masked_share": shares.where(table["input_ids"] >= len(SPECIAL), 0.0)}


def mask(batch: dict[str, Tensor], tokenizer: Any, draws: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """BERT's masking: of the words chosen, 80 % become [MASK], 10 % a random word, 10 % stay. Inputs and targets."""
    inputs, ids = dict(batch), batch["input_ids"]
    chosen = torch.rand(ids.shape, generator=draws) < inputs.pop("masked_share")
    kind = torch.rand(ids.shape, generator=draws)
    anything = torch.randint(len(SPECIAL), len(tokenizer), ids.shape, generator=draws)
    masked = torch.where(chosen & (kind < 0.8), tokenizer.mask_token_id, ids)
    inputs["input_ids"] = torch.where(chosen & (kind >= 0.9), anything, masked)
    return inputs, ids.masked_fill(~chosen, IGNORED)


def take(table: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Some rows of the table, cut to the longest of them."""
    longest = int(table["attention_mask"][rows].sum(1).max())
    return {name: values[rows, :longest] for name, values in table.items()}


def batches_of_like_length(lengths: Tensor, batch_size: int, draws: torch.Generator) -> Iterator[Tensor]:
    """Row numbers, a batch at a time and for ever; sorted within windows of 32 batches, so that little is padding."""
    window = 32 * batch_size
    while True:
        for rows in torch.randperm(len(lengths), generator=draws).split(window):
            batches = rows[lengths[rows].argsort()].split(batch_size)
            for chosen in torch.randperm(len(batches), generator=draws):
                yield batches[chosen]


def masked_word_logits(model: BertForMaskedLM, batch: dict[str, Tensor], at: Tensor) -> Tensor:
    """Logits at the masked places only, (masked, vocabulary): the head costs as much as a block elsewhere."""
    hidden: Tensor = model.bert(**batch).last_hidden_state
    logits: Tensor = model.cls(hidden[at])
    return logits


def train(model: BertForMaskedLM, tokenizer: Any, table: dict[str, Tensor], arguments: argparse.Namespace) -> int:
    """AdamW with warm-up and linear decay until the steps or the minutes are used up; the number of steps.

    The decay follows whichever of the two has advanced further, so that a run cut by time still ends at rate zero.
    """
    draws = torch.Generator().manual_seed(arguments.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.01, betas=(0.9, 0.98))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    order = batches_of_like_length(table["attention_mask"].sum(1), arguments.batch_size, draws)
    start, step = time.monotonic(), 0
    # Without dropout: hardly a text comes twice. The saved config has it, for fine-tuning on few rows.
    model.eval()
    with Progress(*columns) as progress:
        bar = progress.add_task("pretraining", total=arguments.steps)
        while step < arguments.steps:
            done = max(step / arguments.steps, (time.monotonic() - start) / (60 * arguments.minutes))
            if done >= 1:
                break
            optimizer.param_groups[0]["lr"] = arguments.lr * min((step + 1) / arguments.warmup, 1 - done)
            inputs, targets = mask(take(table, next(order)), tokenizer, draws)
            at = targets != IGNORED
            logits = masked_word_logits(model, inputs, at)
            loss = torch.nn.functional.cross_entropy(logits, targets[at])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            progress.update(bar, advance=1, description=f"loss {loss.item():.3f}")
    return step


@torch.no_grad()
def evaluate(model: BertForMaskedLM, tokenizer: Any, table: dict[str, Tensor], unigram: Tensor) -> dict[str, float]:
    """Accuracy at the masked words, of the model and of a guess by frequency; each always the same masks."""
    draws = torch.Generator().manual_seed(0)
    right = guessed = words = 0
    loss = 0.0
    model.eval()
    for rows in torch.arange(len(table["input_ids"])).split(256):
        inputs, targets = mask(take(table, rows), tokenizer, draws)
        at = targets != IGNORED
        logits = masked_word_logits(model, inputs, at)
        right += int((logits.argmax(-1) == targets[at]).sum())
        guessed += int((targets[at] == unigram.argmax()).sum())
        loss += float(torch.nn.functional.cross_entropy(logits, targets[at], reduction="sum"))
        words += int(at.sum())
    return {"accuracy": right / words, "unigram_accuracy": guessed / words, "loss": loss / words}


def main() -> None:
    """Pretrain, measure on fresh text, save."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    transformers_logging.disable_progress_bar()
    texts = corpus(arguments.rows, arguments.seed)
    tokenizer = build_tokenizer(texts)
    table = encode(tokenizer, texts)
    held_out = encode(tokenizer, corpus(4000, arguments.seed + 1))
    model = build_model(len(tokenizer), arguments)
    start = time.monotonic()
    steps = train(model, tokenizer, table, arguments)
    seconds = time.monotonic() - start
    unigram = torch.bincount(table["input_ids"].flatten(), minlength=len(tokenizer))
    unigram[: len(SPECIAL)] = 0
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    results = {
        "masked_words": evaluate(model, tokenizer, held_out, unigram),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "steps": steps,
        "seconds": round(seconds, 1),
        "bytes": sum(file.stat().st_size for file in arguments.output.iterdir()),
        "arguments": {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def _sides(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _arguments() -> argparse.Namespace:
    here, package = Path(__file__).parent, Path(lightning_lora.__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", type=int, default=120_000, help="texts to train on")
    parser.add_argument("--steps", type=int, default=6000, help="the most steps")
    parser.add_argument("--minutes", type=float, default=30.0, help="the most minutes of training")
    parser.add_argument("--batch-size", type=int, default=64, help="texts a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=200, help="steps of warm-up")
    parser.add_argument("--layers", type=int, default=4, help="blocks")
    parser.add_argument("--width", type=int, default=128, help="width of the model")
    parser.add_argument("--seed", type=int, default=0, help="of weights, text, masks and dropout")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--output", type=Path, default=package / "tiny_encoder", help="folder for model and tokenizer")
    parser.add_argument("--results", type=Path, default=here / "results.json", help="file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
