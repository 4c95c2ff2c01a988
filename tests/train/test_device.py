"""The choice of device and number format, and that each comes with its reason."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tuidl.errors import DeviceError
from tuidl.train import device
from tuidl.train.device import Hardware, choose, choose_device, choose_precision

from .tiny import CPU


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that makes these devices exist, each with that much free memory."""

    def start(**gpus: int) -> None:
        names = [name.replace("cuda", "cuda:") for name in gpus]
        monkeypatch.setattr(device, "available", lambda: [*names, "cpu"])
        monkeypatch.setattr(device, "free_memory", lambda name: gpus[name.replace(":", "")] * 2**30)

    return start


def test_auto_takes_the_gpu_with_the_most_free_memory_and_says_so(pretend: Any) -> None:
    pretend(cuda0=3, cuda1=70, cuda2=5)
    chosen, reason = choose_device("auto")
    assert chosen == torch.device("cuda:1")
    assert "70 GiB" in reason and "3 GPUs" in reason


def test_auto_takes_the_only_gpu_or_else_the_cpu(pretend: Any) -> None:
    pretend(cuda0=1)
    assert choose_device("auto") == (torch.device("cuda:0"), "the only GPU")
    pretend()
    chosen, reason = choose_device("auto")
    assert chosen == CPU and "doctor" in reason


def test_what_is_asked_for_is_taken(pretend: Any) -> None:
    pretend(cuda0=1, cuda1=99)
    for wanted, expected in (("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        assert choose_device(wanted) == (torch.device(expected), "asked for")


@pytest.mark.parametrize("wanted", ["cuda:7", "mps", "cuda"])
def test_a_device_that_does_not_exist_is_refused_with_those_that_do(wanted: str, pretend: Any) -> None:
    pretend()
    with pytest.raises(DeviceError, match="auto, cpu") as caught:
        choose_device(wanted)
    assert wanted in str(caught.value) and caught.value.exit_code == 5


@pytest.mark.parametrize(("has", "capability", "on_gpu"), [(True, (9, 0), "bf16"), (False, (7, 5), "fp16"),
                                                           (False, (6, 1), "fp32")])  # fmt: skip
def test_auto_takes_16_bits_only_where_the_hardware_has_them(
    has: bool, capability: tuple[int, int], on_gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    expected = "bf16" if has else "fp32"
    gpu = choose_precision(torch.device("cuda:0"), "auto")
    assert gpu[0] == on_gpu and "Some GPU" in gpu[1]
    assert choose_precision(CPU, "auto")[0] == expected
    assert choose_precision(torch.device("mps"), "auto")[0] == "fp32"
    for wanted in ("fp32", "bf16", "fp16"):
        assert choose_precision(CPU, wanted) == (wanted, "asked for")


def test_choose_gives_hardware_with_a_reason_for_each_choice() -> None:
    found = choose("cpu", "fp32", threads=1)
    assert (found.device, found.precision, found.threads) == (CPU, "fp32", 1)
    assert found.reasons == ("device cpu: asked for", "precision fp32: asked for", "threads 1: asked for")
    assert found.name == "cpu (1 thread)"


def test_threads_are_those_asked_for_or_else_what_torch_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    said: list[int] = []
    fake = {**vars(torch), "set_num_threads": said.append, "get_num_threads": lambda: said[-1] if said else 7}
    monkeypatch.setattr(device, "torch", SimpleNamespace(**fake))
    assert choose("cpu", "fp32").threads == 7
    assert said == []
    assert choose("cpu", "fp32", threads=5).threads == 5
    assert said == [5]


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_computes_in_the_chosen_format(precision: str, expected: torch.dtype) -> None:
    with Hardware(CPU, precision, 1, ()).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_out_of_memory_says_who_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuidl.gpus import Gpu, GpuUser, Nvidia
    from tuidl.train import session

    users = (GpuUser(7, "anna", "python", 30 << 30), GpuUser(os.getpid(), "me", "python", 60 << 30))
    found = Nvidia(gpus=(Gpu(3, "big", 0, 80 << 30, 100, users),))
    monkeypatch.setattr(session, "look_at_nvidia", lambda: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    told = str(session.translate(torch.cuda.OutOfMemoryError("CUDA out of memory")))
    assert "batch_size" in told and told.endswith("process 7 of anna holds 30.0 GiB of GPU 3")


@pytest.mark.parametrize(
    ("busy", "threads", "why"), [(0.0, 4, "each core"), (30.0, 3, "1.2 of the cores"), (99.0, 1, "busy")]
)
def test_threads_are_those_that_others_leave(
    busy: float, threads: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(device.psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(device.psutil, "cpu_percent", lambda interval: busy)
    count, reason = device.choose_threads(0, CPU)
    assert count == threads and why in reason and chosen == ([threads] if threads < 4 else [])
    assert device.choose_threads(2, CPU) == (2, "asked for")
