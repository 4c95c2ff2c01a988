from pathlib import Path

import pytest

from tuidl.runs import RunPaths, create_run


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    return create_run(tmp_path / "runs", "a-run", "mnist-mlp")
