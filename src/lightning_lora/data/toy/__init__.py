"""A small generated English-like language with four tasks in GLUE's shape, so that everything runs without a download.

Meaning is composed, not listed: polarity turns with negation and contrast, verbs agree with subjects that stand far
from them, and what follows from what depends on hypernyms and on what is negated.
"""

from lightning_lora.data.toy.generation import TRAIN_ROWS as TRAIN_ROWS
from lightning_lora.data.toy.generation import VALIDATION_ROWS as VALIDATION_ROWS
from lightning_lora.data.toy.generation import corpus as corpus
from lightning_lora.data.toy.generation import generate as generate
