"""`tuidl doctor`: what it says about machines that are not this one."""

import builtins
import json
import os
import shutil
import sys
from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tuidl.cli import doctor
from tuidl.cli.doctor import GIB
from tuidl.cli.machine import Gpu, GpuUser, Machine, Nvidia, Processor, Terminal, Torch, look_at_nvidia

TORCH = Torch("2.15.0+cu130", "0.30.0", cuda=(13, 0), usable=True)
H200 = Gpu(0, "NVIDIA H200", 100 * GIB, 139 * GIB, 7)
NVIDIA = Nvidia("580.65", (13, 0), (H200,))
PROCESSOR = Processor("A processor", 8, 16, 16, None, 20 * GIB, 32 * GIB)
TERMINAL = Terminal((120, 40), "utf-8", {"TERM": "xterm-256color"})


class FakeMachine(Machine):
    """A machine on which all is well, save what a test changes."""

    def __init__(self, **parts):
        sound = {"torch": TORCH, "nvidia": NVIDIA, "processor": PROCESSOR, "terminal": TERMINAL, "devices": ("cpu",)}
        for name, value in (sound | parts).items():
            setattr(self, name, value)

    def try_device(self, name):
        return "precision auto is fp32: a test says so"


@pytest.fixture
def examine(tuidl, monkeypatch):
    """Returns a function from parts of a machine to its findings by check."""
    for name, value in tuidl.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tuidl.root)

    def look(**parts):
        found = {}
        for finding in doctor.examine(FakeMachine(**parts), tuidl.runs, tuidl.data):
            found.setdefault(finding.check, []).append(finding)
        return found

    return look


def only(found, check):
    (finding,) = found[check]
    return finding


def test_a_sound_machine_has_no_problem(examine):
    found = examine()
    assert {finding.state for findings in found.values() for finding in findings} == {"ok", "note"}
    assert only(found, "driver").state == only(found, "gpu 0").state == only(found, "device cpu").state == "ok"
    assert "100.0 of 139.0 GiB free" in only(found, "gpu 0").found


def test_torch_that_is_missing_or_broken(examine):
    torch = Torch(broken=(("torch", "No module named 'torch'"), ("torchvision", "No module named 'torch'")))
    found = examine(torch=torch)
    assert only(found, "torch").state == "problem" and only(found, "torch").do == "pip install torch torchvision"
    assert "device cpu" not in found
    torch = replace(TORCH, torchvision="", broken=(("torchvision", "operator torchvision::nms does not exist"),))
    found = examine(torch=torch)
    assert only(found, "torch").state == "ok" and "--force-reinstall" in only(found, "torchvision").do


def test_torch_that_is_too_old(examine):
    torch = only(examine(torch=replace(TORCH, version="2.9.1")), "torch")
    assert torch.state == "problem" and "--upgrade" in torch.do
    assert only(examine(torch=replace(TORCH, version="2.10.0")), "torch").state == "ok"


def test_driver_that_is_too_old_for_torch(examine):
    old = Nvidia("550.54", (12, 4), (H200,))
    driver = only(examine(torch=replace(TORCH, usable=False), nvidia=old), "driver")
    assert driver.state == "problem" and "550.54" in driver.found and "12.4" in driver.found and "13.0" in driver.found
    assert "580" in driver.do and "--index-url https://download.pytorch.org/whl/cu126" in driver.do
    ancient = Nvidia("470.1", (11, 4), (H200,))
    driver = only(examine(torch=replace(TORCH, usable=False), nvidia=ancient), "driver")
    assert driver.state == "problem" and "580" in driver.do and "pip" not in driver.do  # no wheels run on that


def test_driver_that_is_older_but_works(examine):
    driver = only(examine(torch=replace(TORCH, cuda=(13, 2))), "driver")
    assert driver.state == "note" and "works all the same" in driver.found


def test_torch_for_cpus_beside_a_gpu(examine):
    driver = only(examine(torch=replace(TORCH, cuda=None, usable=False)), "driver")
    assert driver.state == "problem" and "CPUs only" in driver.found and driver.do.endswith("/whl/cu130")
    old = Nvidia("550.54", (12, 4), (H200,))
    driver = only(examine(torch=replace(TORCH, cuda=None, usable=False), nvidia=old), "driver")
    assert driver.do.endswith("/whl/cu126")


def test_gpu_that_is_hidden_by_a_variable(examine):
    terminal = replace(TERMINAL, environ={"CUDA_VISIBLE_DEVICES": "", "TERM": "xterm"})
    driver = only(examine(torch=replace(TORCH, usable=False), terminal=terminal), "driver")
    assert driver.state == "note" and "CUDA_VISIBLE_DEVICES" in driver.do


def test_gpu_that_torch_cannot_use_for_another_reason(examine):
    driver = only(examine(torch=replace(TORCH, usable=False, complaint="CUDA unknown error")), "driver")
    assert driver.state == "problem" and "CUDA unknown error" in driver.found and "nvidia-smi" in driver.do


def test_no_gpu(examine):
    torch = replace(TORCH, usable=False)
    driver = only(examine(torch=torch, nvidia=Nvidia(trouble="NVML Shared Library Not Found")), "driver")
    assert driver.state == "note" and "training on the CPU works" in driver.found and driver.do == ""
    driver = only(examine(torch=torch, nvidia=Nvidia(trouble="Driver Not Loaded", cards=2)), "driver")
    assert driver.state == "note" and "2 NVIDIA" in driver.found and "--gpus all" in driver.do
    driver = only(examine(torch=TORCH, nvidia=Nvidia(trouble="nvidia-ml-py is not installed")), "driver")
    assert driver.state == "note" and "nvidia-ml-py" in driver.do


def test_full_gpu_names_who_fills_it(examine):
    users = (GpuUser(4711, "ada", "python", 130 * GIB), GpuUser(12, "", "", None), GpuUser(7, "\x1b[31mx", "e\x07", 1))
    full = replace(H200, free=GIB // 2, users=users)
    gpu = only(examine(nvidia=replace(NVIDIA, gpus=(full, replace(H200, index=1)))), "gpu 0")
    assert gpu.state == "problem" and "0.5 of 139.0 GiB free" in gpu.found and "--device" in gpu.do
    assert "ada (python, pid 4711) with 130.0 GiB" in gpu.found
    assert "a hidden user (hidden program, pid 12)" in gpu.found
    assert "\x1b" not in gpu.found and "\x07" not in gpu.found


def test_gpu_that_tells_nothing(examine):
    gpu = only(examine(nvidia=replace(NVIDIA, gpus=(Gpu(0, "MIG", None, None, None),))), "gpu 0")
    assert gpu.state == "ok" and "cannot be read" in gpu.found


def test_device_that_fails(examine, monkeypatch):
    def fail(self, name):
        told = {"cuda:0": "CUDA error: no kernel image is available\nmore", "cuda:1": "CUDA out of memory", "cpu": ""}
        raise RuntimeError(told[name])

    monkeypatch.setattr(FakeMachine, "try_device", fail)
    found = examine(devices=("cuda:0", "cuda:1", "cpu"))
    assert "no kernel image" in only(found, "device cuda:0").found and "reinstall" in only(found, "device cuda:0").do
    assert "wait" in only(found, "device cuda:1").do
    assert only(found, "device cpu").state == "problem" and "RuntimeError" in only(found, "device cpu").found


def test_processor_and_memory(examine):
    found = examine(processor=replace(PROCESSOR, quota=2.0, free=GIB // 4))
    assert only(found, "cpu").state == "note" and "training.threads=2" in only(found, "cpu").do
    assert only(found, "memory").state == "note"
    assert only(examine(processor=replace(PROCESSOR, quota=16.0)), "cpu").state == "ok"


@pytest.mark.parametrize(
    ("terminal", "check", "state", "words"),
    [
        (Terminal(None, "utf-8", {"TERM": "xterm"}), "terminal", "note", "no terminal"),
        (Terminal((59, 24), "utf-8", {}), "terminal", "note", "59x24"),
        (Terminal((80, 19), "utf-8", {}), "terminal", "note", "80x19"),
        (Terminal((60, 20), "utf-8", {}), "terminal", "ok", "60x20"),
        (Terminal((80, 24), "utf-8", {"TERM": "dumb"}), "colours", "note", "dumb"),
        (Terminal((80, 24), "utf-8", {}), "colours", "note", "''"),
        (Terminal((80, 24), "utf-8", {"TERM": "xterm"}), "colours", "ok", "16"),
        (Terminal((80, 24), "utf-8", {"TERM": "tmux-256color"}), "colours", "ok", "256"),
        (Terminal((80, 24), "utf-8", {"TERM": "x", "COLORTERM": "truecolor"}), "colours", "ok", "all"),
        (Terminal((80, 24), "utf-8", {"TERM": "x", "NO_COLOR": "1"}), "colours", "ok", "NO_COLOR"),
        (Terminal((80, 24), "ANSI_X3.4-1968", {}), "encoding", "note", "ANSI"),
        (Terminal((80, 24), "UTF-8", {}), "encoding", "ok", "UTF-8"),
        (Terminal((80, 24), "utf-8", {"SSH_CONNECTION": "1 2 3 4"}), "connection", "note", "without tmux"),
        (Terminal((80, 24), "utf-8", {"SSH_CONNECTION": "1", "TMUX": "x"}), "connection", "ok", "SSH and tmux"),
    ],
)
def test_terminals(examine, terminal, check, state, words):
    finding = only(examine(terminal=terminal), check)
    assert finding.state == state and words in finding.found and (finding.do or state == "ok")


def test_missing_and_damaged_data(examine, tuidl):
    raw = tuidl.data / "MNIST/raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (raw / name).write_bytes(b"")
    (tuidl.data / "text").mkdir()
    (tuidl.data / "text/tinyshakespeare.txt").write_bytes(b"x" * 1_115_394)  # its size is all that is looked at
    found = {finding.found.split(":")[0]: finding for finding in examine()["data"]}
    assert found["mnist"].state == "problem" and found["mnist"].do == "tuidl data get mnist"
    assert found["cifar10"].state == "note" and found["cifar10"].do == "tuidl data get cifar10"
    assert found["tinyshakespeare"].state == "ok"
    assert not (tuidl.runs.exists() or list(tuidl.data.glob(".*")))  # looking leaves nothing behind


def test_directories_that_cannot_be_written(examine, tuidl):
    for directory in (tuidl.runs, tuidl.data):
        directory.write_text("a file where the directory should be")
    found = examine()
    runs, data = found["runs directory"][0], only(found, "data directory")
    assert runs.state == "problem" and "is not a directory" in runs.found and "--runs-dir" in runs.do
    assert data.state == "note" and "--data-dir" in data.do  # data that is there can be read all the same
    assert only(found, "runs").state == "problem"


def test_directory_below_one_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert "is not a directory" in doctor.why_not_writable(tmp_path / "file/deep/er")
    assert doctor.why_not_writable(tmp_path / "to/be/made") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_disk_that_refuses(examine, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = examine()
    assert only(found, "runs directory").state == "problem" and "No space left" in only(found, "runs directory").found
    assert only(found, "home").state == only(found, "cache").state == "note"


@pytest.mark.parametrize(("free", "state"), [(10**7, "problem"), (GIB // 2, "note"), (2 * GIB, "ok")])
def test_disk_that_is_nearly_full(examine, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert only(examine(), "disk").state == state


def test_runs_are_counted(examine, tuidl):
    for name in ("a", "b"):
        (tuidl.runs / name).mkdir(parents=True)
    assert only(examine(), "runs").found == "2 runs"


def test_a_check_that_breaks_is_a_finding(examine):
    found = examine(processor=None, nvidia=None)
    assert only(found, "cpu").state == "problem" and "AttributeError" in only(found, "cpu").found
    assert only(found, "driver").state == only(found, "gpu").state == "problem"
    assert only(found, "memory" if "memory" in found else "runs").state == "ok"  # the others go on


def told(tuidl, capsys, machine, as_json=False):
    args = Namespace(json=as_json, runs_dir=tuidl.runs, data_dir=tuidl.data)
    return doctor.doctor(args, machine), *capsys.readouterr()


def test_lines_are_aligned_and_marked_without_colour(examine, tuidl, capsys):
    code, out, err = told(tuidl, capsys, FakeMachine(torch=replace(TORCH, version="2.9.1")))
    assert code == 1 and "1 problems (x)" in err
    lines = out.splitlines()
    assert {line[:2].strip() for line in lines} == {"ok", "!", "x", ""} and "\x1b" not in out
    assert {line.index(line[18:].lstrip(), 18) for line in lines if line.strip()[0] != "-"} == {19}
    assert told(tuidl, capsys, FakeMachine())[0] == 0


def test_json_lines_parse(examine, tuidl, capsys):
    code, out, err = told(tuidl, capsys, FakeMachine(nvidia=replace(NVIDIA, driver="\x1b\u202e")), as_json=True)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and err == "" and all(set(row) == {"check", "state", "found", "do"} for row in rows)
    assert "\x1b" not in out and "\\u001b" not in out and "\\u202e" not in out


def test_real_doctor(tuidl, escapes):
    done = tuidl("doctor")
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr and not escapes(done.stdout)
    assert "device cpu" in done.stdout and "tuidl data get mnist" in done.stdout
    done = tuidl("doctor", "--json", PYTHONIOENCODING="ascii", TERM="dumb")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == "" and {row["state"] for row in rows} <= {"ok", "note", "problem"}
    assert not tuidl.runs.exists() and not tuidl.data.exists()


def test_doctor_lives_without_torch(tuidl):
    (tuidl.root / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    done = tuidl("doctor", "--json", PYTHONPATH=str(tuidl.root))
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1 and rows["torch"]["state"] == "problem" and "libcudart" in rows["torch"]["found"]
    assert "pip install torch" in rows["torch"]["do"] and rows["runs directory"]["state"] == "ok"


# --- asking the driver ----------------------------------------------------------------------------------------------


class NVMLError(Exception):
    """As in pynvml."""


def fake_nvml(**changed):
    """A module like pynvml, with one GPU that this process and another one use."""
    others = os.getppid()

    def refuse(*args):
        raise NVMLError("Insufficient Permissions")

    answers = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlSystemGetCudaDriverVersion_v2": 12040,
        "nvmlSystemGetDriverVersion": b"550.54", "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": "NVIDIA H200", "nvmlDeviceGetMemoryInfo": SimpleNamespace(free=0, total=GIB),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0),
        "nvmlDeviceGetUUID": "GPU-1-2",
        "nvmlDeviceGetComputeRunningProcesses": [
            SimpleNamespace(pid=others, usedGpuMemory=GIB), SimpleNamespace(pid=os.getpid(), usedGpuMemory=GIB),
        ],
        "nvmlDeviceGetGraphicsRunningProcesses": [SimpleNamespace(pid=2**22 + 1, usedGpuMemory=None)],
    }  # fmt: skip
    functions = {name: lambda *args, value=value: value for name, value in answers.items()}
    return SimpleNamespace(NVMLError=NVMLError, **functions | dict.fromkeys(changed, refuse))


def test_driver_is_asked(monkeypatch):
    import psutil

    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    seen = look_at_nvidia()
    assert seen.driver == "550.54" and seen.cuda == (12, 4) and seen.trouble == ""
    (gpu,) = seen.gpus
    assert (gpu.name, gpu.free, gpu.total, gpu.busy, gpu.uuid) == ("NVIDIA H200", 0, GIB, 0, "GPU-1-2")
    parent, hidden = gpu.users
    assert parent == GpuUser(os.getppid(), psutil.Process(os.getppid()).username(), parent.name, GIB) and parent.name
    assert hidden == GpuUser(2**22 + 1, "", "", None)


def test_driver_that_refuses(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlInit=1))
    assert look_at_nvidia().trouble == "Insufficient Permissions"
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetCount=1))
    assert look_at_nvidia().trouble == "Insufficient Permissions"
    refused = dict.fromkeys(
        ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetComputeRunningProcesses"), 1
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(**refused))
    (gpu,) = look_at_nvidia().gpus
    assert gpu.free is None and gpu.busy is None and [user.pid for user in gpu.users] == [2**22 + 1]
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetHandleByIndex=1))
    assert "does not answer" in look_at_nvidia().gpus[0].name


def test_library_of_the_driver_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "nvidia-ml-py" in look_at_nvidia().trouble
