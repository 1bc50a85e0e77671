"""Law: Hydra reads a setting that was written as a word back to the same value."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from lightning_lora.sweeping.words import word


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value


TEXTS = ["qv", "glue/rte", "null", "true", "8", "1e-3", "a, b", "it's", "a=b", "x y", "[0]", "$x"]
LISTS = [["a,b", "4", "it's", None], [0, 1], [], [0.9, 0.999]]


@pytest.mark.parametrize("value", [None, True, 8, -1, 1e-5, 0.1, *TEXTS, *LISTS], ids=repr)
def test_a_word_is_read_back_to_its_value(value: Any) -> None:
    read = plain(OverridesParser.create().parse_override(word("key", value)).value())
    assert read == value
    assert type(read) is type(value)


def test_quotes_stand_only_where_they_must() -> None:
    assert word("data.path", "glue/rte") == "data.path=glue/rte"
    assert word("lora.roles", ["query", "value"]) == "lora.roles=[query,value]"
