"""The numbers of the test study are those of the code before logits were stored."""

import json
from pathlib import Path

import pytest
import torch

from tests.workflow.before import differences
from tests.workflow.runner import ROOT


def test_every_number_is_as_before(whole: Path) -> None:
    record = json.loads((ROOT / "tests/workflow/before.json").read_text())
    processor = torch.backends.cpu.get_cpu_capability()
    if processor != record.pop("processor"):
        pytest.skip(f"embeddings and weights were recorded on another processor than {processor}")
    assert differences(whole / "results", record) == []
