"""Every campaign of the fault bench, small, with `TUIDL_CAMPAIGNS=1`: about ten minutes on two cores.

`python benchmarks/faults --full` is the same at full size.
"""

import os
from pathlib import Path

import pytest
from faults import files, processes, strangers  # noqa: F401 - they register their campaigns
from faults.campaign import CAMPAIGNS, NotHere


@pytest.mark.skipif("TUIDL_CAMPAIGNS" not in os.environ, reason="takes ten minutes; set TUIDL_CAMPAIGNS=1")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign(name: str, tmp_path: Path) -> None:
    found = CAMPAIGNS[name]
    try:
        lines = list(found.run(tmp_path, found.small))
    except NotHere as reason:
        pytest.skip(str(reason))
    assert len(lines) >= found.small
    assert [line for line in lines if line] == []
