import json
import subprocess
import sys

import pytest

import lightning_lora.data
import lightning_lora.tasks
from lightning_lora.data.datamodule import TextDataModule


def test_the_toy_data_does_not_load_lightning_and_the_module_does() -> None:
    code = (
        "import json, sys, lightning_lora.data.toy; before = 'lightning' in sys.modules; "
        "import lightning_lora.data as d; d.TextDataModule; print(json.dumps([before, 'lightning' in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [False, True]
    assert lightning_lora.data.TextDataModule is TextDataModule


@pytest.mark.parametrize("package", [lightning_lora.data, lightning_lora.tasks])
def test_every_public_name_is_there_and_no_other(package) -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = package.absent
