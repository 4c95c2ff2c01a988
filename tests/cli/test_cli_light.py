"""Commands that need no torch load none, and the lists say what a form and a student need."""

import json
import re
import subprocess
import sys

import pytest

from tuidl.spec import build_spec, load_preset, preset_names
from tuidl.spec.datasets import DATASETS
from tuidl.spec.load import PRESET_LIMIT, preset_directory, read_toml
from tuidl.spec.tasks import TASKS

HEAVY = ("torch", "torchvision", "numpy", "textual", "rich")


@pytest.mark.parametrize(
    "words",
    [["--help"], ["run", "--help"], ["data", "list"], ["presets"], ["runs"], ["--version"], []],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_light_commands_load_nothing_heavy(tuidl, words):
    code = (
        "import sys\nfrom tuidl.cli import main\n"
        f"try: code = main({words!r})\nexcept SystemExit as end: code = end.code\n"
        f"print('loaded:', code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=tuidl.environ, cwd=tuidl.root, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded: 0 []"


def test_help_names_every_command_and_hides_the_trainer(tuidl):
    done = tuidl("--help")
    for name in (
        "run",
        "presets",
        "runs",
        "show",
        "pause",
        "continue",
        "step",
        "stop",
        "kill",
        "set",
        "data",
        "doctor",
    ):
        assert re.search(rf"^    {name}\b", done.stdout, re.MULTILINE), name
    assert "_train" not in done.stdout and "_companion" not in done.stdout
    assert done.returncode == 0 and done.stderr == ""


def test_an_argument_that_argparse_refuses_ends_with_2(cli):
    for words in (["run"], ["run", "mnist-mlp", "--epochs", "many"], ["fly"], ["presets", "--colour"]):
        said = cli(*words)
        assert said.code == 2 and said.out == "" and "usage:" in said.err and "Traceback" not in said.err


def test_presets_are_listed(cli):
    said = cli("presets")
    assert said.code == 0 and said.err == ""
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == preset_names()
    rows = cli("presets", "--json").lines
    assert [row["name"] for row in rows] == preset_names()
    for row in rows:
        assert {"title", "shows", "things_to_try", "expected", "time_cpu", "time_gpu", "task", "data"} <= row.keys()


def test_own_presets_are_listed_and_a_broken_one_harms_nothing(cli, tuidl):
    own = tuidl.root / "presets"
    own.mkdir()
    (own / "mine.toml").write_text('[about]\ntitle = "Mine"\n[training]\nepochs = 3\n')
    (own / "broken.toml").write_text("[training]\nepochs = -3\n")
    rows = {row["name"]: row for row in cli("presets", "--json").lines}
    assert list(rows)[-2:] == ["broken", "mine"] and not rows["mnist-mlp"]["own"]
    assert rows["mine"]["own"] and rows["mine"]["title"] == "Mine"
    assert rows["broken"]["own"] and "training.epochs = -3 is out of range" in rows["broken"]["error"]
    said = cli("presets")
    assert said.code == 0 and "cannot be used: broken.toml: training.epochs" in said.out and "Mine" in said.out
    assert cli("presets", "mine").code == 0 and cli("run", "mine", "--epochs", "0").code == 2
    said = cli("presets", "broken")
    assert said.code == 2 and "training.epochs" in said.err


@pytest.mark.parametrize("name", preset_names())
def test_every_field_of_a_preset_is_described(cli, name):
    (row,) = cli("presets", name, "--json").lines
    assert row["name"] == name and row["spec"]["task"] in TASKS
    choices = [choice for group in row["choices"].values() for choice in group]
    described = [*row["fields"], *(field for choice in choices for field in choice.get("fields", ()))]
    assert len(row["fields"]) > 30
    for field in described:
        assert field["help"] and "default" in field and isinstance(field["live"], bool), field
        if field["type"] in ("number", "integer"):
            assert field["minimum"] is not None or field["above"] is not None, field
            assert field["maximum"] is not None or field["below"] is not None, field
    live = {field["path"] for field in row["fields"] if field["live"]}
    assert {"optimizer.lr", "regularization.dropout"} <= live and "seed" not in live
    for group in ("model", "loss", "optimizer", "schedule"):
        assert {field["path"]: field for field in row["fields"]}[f"{group}.kind"]["choices"]
        assert all(choice["title"] and choice["summary"] for choice in row["choices"][group])


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_complete(cli, name):
    assert (preset_directory() / f"{name}.toml").stat().st_size <= PRESET_LIMIT
    spec = load_preset(name)
    about = spec.about
    assert all((about.title, about.shows, about.things_to_try, about.expected, about.time_cpu, about.time_gpu))
    stand_in, asked = DATASETS[spec.data.stand_in], DATASETS[spec.data.name]
    assert stand_in.built_in and stand_in.kind == asked.kind and stand_in.shape == asked.shape
    said = cli("presets", name)
    assert said.code == 0 and about.title in said.out and "optimizer.lr*" in said.out


IDEAS = [(name, idea) for name in preset_names() for idea in load_preset(name).about.things_to_try]


@pytest.mark.parametrize(("name", "idea"), IDEAS, ids=[f"{name}: {idea[:40]}" for name, idea in IDEAS])
def test_every_idea_of_a_preset_can_be_tried(name, idea):
    changes = [change.rstrip(".,:;") for change in re.findall(r"\b[a-z_]+\.[a-z0-9_]+=(?:\[[^\]]*\]|[^\s,:;]+)", idea)]
    plain = read_toml(preset_directory() / f"{name}.toml")
    assert build_spec(plain, changes)
    for first in (change for change in changes if ".kind=" in change):  # "kind=sgd, then momentum, then adam"
        group = first.partition(".")[0]
        others = re.findall(r"(?:, then|,| or) ([a-z-]+)\b(?=[:,]| or )", idea)
        for other in others:
            assert build_spec(plain, [f"{group}.kind={other}"])


def test_preset_can_be_named_by_path(cli, tuidl):
    (tuidl.root / "mine.toml").write_text('[about]\ntitle = "Mine"\n[optimizer]\nlr = 0.5\n')
    (row,) = cli("presets", "mine.toml", "--json").lines
    assert row["spec"]["about"]["title"] == "Mine" and row["spec"]["optimizer"]["lr"] == 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["presets"], ["presets", "mnist-mlp"], ["presets", "mnist-mlp", "--json"], ["data", "list"],
        ["--help"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_reader_of_a_pipe_may_leave(tuidl, words):
    process = tuidl.start(*words)
    process.stdout.close()
    _, err = process.communicate()
    assert "Traceback" not in err and "BrokenPipe" not in err and "Exception ignored" not in err
    assert process.returncode == 0


def test_presets_are_shown_under_any_locale(tuidl):
    done = tuidl("presets", "mnist-gan", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_data_list_says_what_is_there(cli, tuidl):
    rows = {row["name"]: row for row in cli("data", "list", "--json").lines}
    assert set(rows) == set(DATASETS)
    assert rows["mnist"]["state"] == "absent" and "tuidl data get mnist" in rows["mnist"]["note"]
    assert rows["drawn-digits"]["state"] == "built in"
    assert json.dumps(rows)


def test_a_trainer_loads_neither_torchvision_nor_the_compiler():
    """Each takes about as long to load as torch itself, and every run would wait for it before its first step."""
    code = """
import sys
import torch
import tuidl.train.session, tuidl.train.companion, tuidl.train.answers
import tuidl.train.tasks.classification, tuidl.train.tasks.language, tuidl.train.tasks.gan
from tuidl.spec import build_spec, load_preset
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train.updater import Updater

model = torch.nn.Linear(3, 3)
for kind in OPTIMIZERS:
    updater = Updater(model, build_spec(load_preset("mnist-mlp").model_dump(mode="json"), [f"optimizer.kind={kind}"]))
    loss = model(torch.ones(2, 3)).sum()
    updater.backward(loss)
    updater.step(loss.detach(), 0.1)
    updater.restore("", updater.saved(""))
print([name for name in ("torchvision", "torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
