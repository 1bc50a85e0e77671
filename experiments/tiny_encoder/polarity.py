"""Does the embedded encoder know what a review says? The mood of its writer, asked as a masked word.

    python experiments/tiny_encoder/polarity.py

A review, then "the critic was [MASK] .": the answer is right where a word of the review's own polarity is likelier than
every word of the other. The figures go to polarity.json beside this file.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from transformers import BertForMaskedLM, BertTokenizer

import lightning_lora
from lightning_lora.data.toy.lexicon import MOODS
from lightning_lora.data.toy.sentiment import draw_sentence, draw_simple_sentence

HERE = Path(__file__).parent
QUESTION = "the critic was [MASK] ."
KINDS: dict[str, Callable[[Random, int], str]] = {
    "any review": draw_sentence,
    "one clause, some negated": lambda random, label: draw_simple_sentence(random, label, negations=True),
    "one clause, none negated": lambda random, label: draw_simple_sentence(random, label, negations=False),
}


@torch.inference_mode()
def answers(model: BertForMaskedLM, tokenizer: BertTokenizer, reviews: list[str]) -> list[int]:
    """1 where the likeliest mood is a glad one, 0 where it is an angry one."""
    batch = tokenizer(reviews, [QUESTION] * len(reviews), padding=True, return_tensors="pt")
    at = batch["input_ids"] == tokenizer.mask_token_id
    logits = model(**batch).logits[at]
    angry, glad = (logits[:, tokenizer.convert_tokens_to_ids(list(words))].amax(1) for words in MOODS)
    return (glad > angry).long().tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(lightning_lora.__file__).parent / "tiny_encoder")
    parser.add_argument("--reviews", type=int, default=500, help="of each kind, half of them positive")
    parser.add_argument("--out", type=Path, default=HERE / "polarity.json")
    options = parser.parse_args()

    model = BertForMaskedLM.from_pretrained(options.model).eval()
    tokenizer = BertTokenizer.from_pretrained(options.model)
    shares = {}
    for kind, draw in KINDS.items():
        random = Random("polarity")
        labels = [number % 2 for number in range(options.reviews)]
        told = answers(model, tokenizer, [draw(random, label) for label in labels])
        shares[kind] = sum(a == b for a, b in zip(told, labels, strict=True)) / len(labels)
        print(f"{kind:<26} {shares[kind]:.3f} right of {len(labels)} (chance 0.5)")
    options.out.write_text(json.dumps({"reviews": options.reviews, "right": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()
