"""Exactly one trainer owns a run."""

import contextlib
import threading
from pathlib import Path

import pytest

from tuidl.errors import OwnershipError, UsageError
from tuidl.runs import Identity, RunPaths, create_run
from tuidl.runs.ownership import Claim, claim


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return create_run(tmp_path, "one", "x")


def owned_by(paths: RunPaths, number: int, **changes: object) -> None:
    identity = Identity.current().model_copy(update=changes)
    (paths.directory / f"owner-{number}.json").write_text(identity.model_dump_json())


def test_the_first_claim_holds_until_it_is_released(paths: RunPaths) -> None:
    first = claim(paths)
    assert first.number == 1
    with pytest.raises(UsageError, match="being trained by process"):
        claim(paths)
    with pytest.raises(UsageError, match="being trained by process"):
        claim(paths, take_over=True)
    first.release()
    assert claim(paths).number == 2


def test_the_claim_of_a_dead_process_is_none(paths: RunPaths) -> None:
    owned_by(paths, 1, start_ticks=1)
    owned_by(paths, 2, boot_id="0" * 36)
    assert claim(paths).number == 3


@pytest.mark.parametrize("content", [None, "", "{", '{"pid": 1}', "[]", "x" * 5000])
def test_a_claim_that_cannot_be_judged_is_taken_over_only_when_asked(paths: RunPaths, content: str | None) -> None:
    if content is None:
        owned_by(paths, 1, host="elsewhere", boot_id="1" * 36)
    else:
        (paths.directory / "owner-1.json").write_text(content)
    with pytest.raises(UsageError, match="--take-over"):
        claim(paths)
    assert claim(paths, take_over=True).number == 2


def test_who_was_overtaken_learns_of_it(paths: RunPaths) -> None:
    first = claim(paths)
    first.check()
    first.release()
    claim(paths)
    with pytest.raises(OwnershipError, match="taken"):
        first.check()


def test_of_many_that_try_at_once_one_succeeds(paths: RunPaths) -> None:
    for round_ in range(20):
        won: list[Claim] = []
        ready = threading.Barrier(8)

        def try_it(ready: threading.Barrier = ready, won: list[Claim] = won) -> None:
            ready.wait()
            with contextlib.suppress(UsageError):
                won.append(claim(paths))

        threads = [threading.Thread(target=try_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found.number for found in won] == [round_ + 1]
        won[0].release()


def test_a_link_is_no_claim_to_be_followed(paths: RunPaths, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("{}")
    (paths.directory / "owner-1.json").symlink_to(target)
    with pytest.raises(UsageError, match="cannot be read"):
        claim(paths)
