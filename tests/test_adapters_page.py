"""The example in docs/adapters.md runs, with its own assertions."""

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "adapters.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert example.count("assert ") == 3
    exec(compile(example, "docs/adapters.md", "exec"), {})
