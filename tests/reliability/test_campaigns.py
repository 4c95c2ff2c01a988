"""Every campaign of the fault bench, small. `python benchmarks/faults --full` is the same at full size."""

from pathlib import Path

import pytest
from faults import files, processes, strangers  # noqa: F401 - they register their campaigns
from faults.campaign import CAMPAIGNS, NotHere


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign(name: str, tmp_path: Path) -> None:
    found = CAMPAIGNS[name]
    try:
        lines = list(found.run(tmp_path, found.small))
    except NotHere as reason:
        pytest.skip(str(reason))
    assert len(lines) >= found.small
    assert [line for line in lines if line] == []
