"""The panels over what a run leaves again and again: their keys, their caution with files, and every size."""

import io
import json
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from textual.app import App, ComposeResult

from tuidl.errors import StorageError
from tuidl.tui.panels.images import (
    DrawnPanel,
    HistogramFile,
    ProbesFile,
    WorstPanel,
    caption_of,
    decode_png,
    parse_grid,
)
from tuidl.tui.panels.matrix import ConfusionPanel, parse_confusion
from tuidl.tui.panels.samples import SamplesPanel, parse_text, wrapped
from tuidl.tui.panels.scrubber import DamagedError, Scrubber, parse_json
from tuidl.tui.snapshot import Artifact, Snapshot

HOSTILE = "\x1b[31m\x9b\u202e[bold]\u200b\r\n\x07e\u0301猫\U0001f600\ud800"
PETS = ["cat", "dog", "fish"]


# ---------------------------------------------------------------------- runs without a directory


class Files:
    """The artifacts of a run, in memory."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.artifacts: dict[str, list[Artifact]] = {}
        self.reads = 0

    def add(self, kind: str, step: int, content: Any, stem: str = "", **details: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path = f"artifacts/{stem or kind}-{step:09d}"
        self.data[path] = data
        self.artifacts.setdefault(kind, []).append(Artifact(kind, step, step / 10, path, details))

    def read(self, artifact: Artifact) -> bytes:
        self.reads += 1
        if artifact.path not in self.data:
            raise StorageError("the file is gone")
        return self.data[artifact.path]

    def snapshot(self) -> Snapshot:
        found = {kind: tuple(items) for kind, items in self.artifacts.items()}
        return Snapshot("run", "/runs/run", None, {}, None, "running", None, artifacts=found)  # type: ignore[arg-type]


def png(columns: int, rows: int, size: int, mode: str = "L") -> bytes:
    file = io.BytesIO()
    image = Image.linear_gradient("L").resize((columns * size, rows * size)).convert(mode)
    image.save(file, "PNG")
    return file.getvalue()


def confusion(size: int = 3, step: int = 0, labels: Sequence[str] | None = None) -> dict[str, Any]:
    counts = [[90 + step if true == guess else (true * guess) % 5 for guess in range(size)] for true in range(size)]
    return {"labels": labels or [f"c{number}" for number in range(size)], "counts": counts}


def probes(count: int, labels: Sequence[str] = PETS) -> dict[str, Any]:
    return {
        "labels": labels, "targets": [0] * count, "predicted": [number % 2 for number in range(count)],
        "confidence": [0.87] * count, "worst": [*range(1, count), 0],
    }  # fmt: skip


def full(labels: Sequence[str] = PETS) -> Files:
    """Return a run with two of every kind."""
    files = Files()
    for step in (10, 20):
        files.add("confusion", step, confusion(len(labels), step, labels), "confusion-val")
        files.add("probes", step, probes(8, labels))
        files.add("worst", step, png(4, 2, 12, "RGB"), count=8, columns=4, height=12, width=12)
        files.add("drawn", step, png(3, 3, 8), count=9, columns=3, height=8, width=8)
        files.add("histogram", step, {"labels": labels, "drawn": [1 / len(labels)] * len(labels), "images": 300})
        text = " ".join([*labels, str(step)])
        files.add("text", step, {"prompt": text[:9], "samples": [{"temperature": t, "text": text} for t in (0.5, 1)]})
    return files


PANELS: dict[str, Callable[[Files], Scrubber]] = {
    "matrix": lambda files: ConfusionPanel(files.read, id="panel"),
    "worst": lambda files: WorstPanel(files.read, id="panel"),
    "drawn": lambda files: DrawnPanel(files.read, id="panel"),
    "samples": lambda files: SamplesPanel(files.read, id="panel"),
}


class Stage(App[None]):
    """One panel that fills the terminal."""

    CSS = "#panel { width: 1fr; height: 1fr; }"

    def __init__(self, name: str, files: Files) -> None:
        super().__init__()
        self.files = files
        self.panel = PANELS[name](files)
        self.units: list[bool] = []

    def compose(self) -> ComposeResult:
        yield self.panel

    def on_mount(self) -> None:
        self.panel.focus()
        self.panel.show(self.files.snapshot())

    def on_confusion_panel_unit_changed(self, event: ConfusionPanel.UnitChanged) -> None:
        self.units.append(event.rates)

    @property
    def rows(self) -> list[str]:
        return [self.panel.render_line(y).text.rstrip() for y in range(self.panel.content_size.height)]

    @property
    def below(self) -> str:
        label = self.panel._border_subtitle
        return label.plain if label else ""


# ---------------------------------------------------------------------- moving through time


async def test_follows_the_newest_until_told_otherwise() -> None:
    files = full()
    app = Stage("samples", files)
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert app.below == "step 20 · 2 of 2 · newest"
        await pilot.press("left")
        assert app.below == "step 10 · 1 of 2"
        await pilot.press("left")
        assert app.below == "step 10 · 1 of 2"
        files.add("text", 30, {"prompt": "", "samples": [{"temperature": 1, "text": "third"}]})
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.below == "step 10 · 1 of 3"
        await pilot.press("right")
        assert app.below == "step 20 · 2 of 3"
        await pilot.press("end")
        assert app.below == "step 30 · 3 of 3 · newest"
        files.add("text", 40, {"prompt": "", "samples": [{"temperature": 1, "text": "fourth"}]})
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.below == "step 40 · 4 of 4 · newest"
        assert "fourth" in app.rows[1]
        await pilot.press("home")
        assert app.below == "step 10 · 1 of 4"
        await pilot.press("right", "right", "right")
        assert app.below == "step 40 · 4 of 4 · newest"


async def test_stays_with_what_is_looked_at_when_the_oldest_are_let_go() -> None:
    files = full()
    app = Stage("samples", files)
    async with app.run_test(size=(60, 12)) as pilot:
        files.add("text", 30, {"prompt": "", "samples": [{"temperature": 1, "text": "third"}]})
        app.panel.show(files.snapshot())
        await pilot.press("left")
        del files.artifacts["text"][0]
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.below == "step 20 · 1 of 2"
        del files.artifacts["text"][0]
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.below == "step 30 · 1 of 1 · newest"


@pytest.mark.parametrize("name", PANELS)
async def test_before_the_first_file_a_sentence_stands(name: str) -> None:
    app = Stage(name, Files())
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.press("left", "right", "home", "end", "enter", "c", "plus", "minus", "up", "down")
        assert "yet" in app.rows[0]
        assert app.below == ""


@pytest.mark.parametrize("name", PANELS)
async def test_what_stays_the_same_is_neither_read_nor_sent_again(name: str) -> None:
    files = full()
    app = Stage(name, files)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("left", "end")
        before = files.reads
        await pilot.press("left", "end")
        assert files.reads == before
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert files.reads == before
        seen = app.panel.repaints
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.panel.repaints == seen


@pytest.mark.parametrize("name", PANELS)
async def test_a_damaged_file_is_told_in_a_sentence_and_the_others_still_shown(name: str) -> None:
    files = full()
    kind = PANELS[name](files).KIND
    files.add(kind, 30, b"\x00not what it should be", count=1, columns=1, height=8, width=8)
    app = Stage(name, files)
    async with app.run_test(size=(70, 20)) as pilot:
        await pilot.pause()
        assert app.rows[0].startswith("this file of the run is damaged and cannot be shown (")
        assert app.below == "step 30 · 3 of 3 · newest"
        await pilot.press("left")
        assert "damaged" not in "".join(app.rows)


async def test_a_file_that_cannot_be_read_is_tried_again() -> None:
    files = full()
    path = files.artifacts["text"][-1].path
    data = files.data.pop(path)
    app = Stage("samples", files)
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert app.rows[0] == "the file is gone"
        files.data[path] = data
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.rows[0].startswith("temperature 0.5")


# ---------------------------------------------------------------------- the matrix


async def test_matrix_counts_and_rates() -> None:
    app = Stage("matrix", full())
    async with app.run_test(size=(60, 10)) as pilot:
        await pilot.pause()
        assert app.below == "counts · validation · step 20 · 2 of 2 · newest"
        assert app.rows[2] == " cat [110]  ·   ·    100%  dog as fish                   2"
        await pilot.press("c")
        assert app.below == "per cent · validation · step 20 · 2 of 2 · newest"
        assert app.rows[2] == " cat [ 100]   ·    ·    100%  dog as fish             1.8%"
        await pilot.press("c")
        assert app.units == [True, False]


async def test_matrix_arrows_go_through_cells_after_enter_and_through_time_after_escape() -> None:
    app = Stage("matrix", full())
    async with app.run_test(size=(60, 10)) as pilot:
        await pilot.press("enter")
        assert app.below == "dog taken for fish: 2 of 112 (1.8 %)"
        await pilot.press("left")
        assert app.below == "dog recognised: 110 of 112 (98.2 %)"
        await pilot.press("up", "up", "left", "left")
        assert app.below == "cat recognised: 110 of 110 (100.0 %)"
        assert ">110<" in app.rows[2]
        await pilot.press("down", "escape", "left")
        assert app.below == "counts · validation · step 10 · 1 of 2"
        assert ">" not in "".join(app.rows)


async def test_matrix_takes_a_click_for_a_cell() -> None:
    app = Stage("matrix", full())
    async with app.run_test(size=(60, 10)) as pilot:
        await pilot.click("#panel", offset=(11, 4))
        assert app.below == "dog recognised: 110 of 112 (98.2 %)"
        await pilot.click("#panel", offset=(55, 8))
        assert app.below.endswith("newest")


async def test_matrix_cursor_outside_of_a_smaller_matrix_is_dropped() -> None:
    files = full()
    files.add("confusion", 30, confusion(9), "confusion-test")
    app = Stage("matrix", files)
    async with app.run_test(size=(70, 16)) as pilot:
        await pilot.press("enter", *["down"] * 9)
        files.add("confusion", 40, confusion(2), "confusion-val")
        app.panel.show(files.snapshot())
        await pilot.pause()
        assert app.below == "counts · validation · step 40 · 4 of 4 · newest"


# ---------------------------------------------------------------------- images


async def test_worst_images_have_their_captions() -> None:
    app = Stage("worst", full())
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        text = "\n".join(app.rows)
        assert "cat→dog 87%" in text
        assert "cat✓ 87%" in text
        await pilot.resize_terminal(60, 10)
        app.files.data[app.files.artifacts["probes"][1].path] = b"[]"
        await pilot.press("home")
        assert "cat→dog 87%" in "\n".join(app.rows)


def test_captions_take_what_room_there_is() -> None:
    assert caption_of("airplane", "automobile", "87%", 30) == "airplane→automobile 87%"
    assert caption_of("airplane", "automobile", "87%", 14) == "airp→auto 87%"
    assert caption_of("airplane", "automobile", "87%", 11) == "air→aut 87%"
    assert caption_of("airplane", "automobile", "87%", 8) == "air→aut"
    assert caption_of("airplane", "automobile", "87%", 5) == ""
    assert caption_of("4", "9", "87%", 8) == "4→9 87%"
    assert caption_of("4", "4", "51%", 8) == "4✓ 51%"


async def test_larger_and_smaller_images() -> None:
    app = Stage("worst", full())
    async with app.run_test(size=(66, 34)) as pilot:
        await pilot.pause()
        seen = [len(re.findall("87%", "".join(app.rows)))]
        for key in ("minus", "minus", "minus", "plus", "plus", "plus", "plus", "plus", "plus"):
            await pilot.press(key)
            seen.append(len(re.findall("87%", "".join(app.rows))))
        assert seen == [8, 8, 8, 8, 4, 1, 1, 1, 1, 1]
        assert app.below.endswith("1 of 8 images")


async def test_drawn_images_and_the_classes_they_look_like() -> None:
    files = full()
    shares = [0.9, 0.1, 0.0]
    files.add("histogram", 20, {"labels": PETS, "drawn": shares, "images": 200})
    app = Stage("drawn", files)
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert app.rows[-6:] == [
            "2 of 3 classes, hardly any fish  in 200 images at step 20",
            "████████",
            "████████",
            "████████ ▃▃▃▃▃▃▃▃",
            "  180       20       0",
            "  cat      dog      fish",
        ]


@pytest.mark.parametrize("plain", [False, True])
async def test_images_without_colours_are_ink(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    app = Stage("drawn", full())
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert app.panel.coloured is not plain  # type: ignore[attr-defined]
        assert ("#" in "".join(app.rows)) is plain


# ---------------------------------------------------------------------- samples


async def test_samples_below_each_other_and_side_by_side() -> None:
    files = Files()
    text = "to be or not to be that is the question whether it is nobler"
    samples = [{"temperature": heat, "text": text} for heat in (0.5, 0.8, 1.1)]
    files.add("text", 5, {"prompt": "Who? ", "samples": samples})
    app = Stage("samples", files)
    async with app.run_test(size=(34, 11)) as pilot:
        await pilot.pause()
        assert app.rows == [
            "temperature 0.5 ────────────────",
            "Who? to be or not to be that is",
            "the question whether it is",
            "temperature 0.8 ────────────────",
            "Who? to be or not to be that is",
            "the question whether it is",
            "temperature 1.1 ────────────────",
            "Who? to be or not to be that is",
            "the question whether it is",
        ]
        assert app.below == "step 5 · ↓ more"
        await pilot.press("down", "down")
        assert app.rows[1:4] == ["the question whether it is", "nobler", "temperature 0.8 ────────────────"]
        assert app.below == "step 5 · 1 of 1 · newest"
        await pilot.press("up")
        assert app.rows[1].startswith("Who?")
        await pilot.resize_terminal(92, 6)
        await pilot.pause()
        assert app.rows[:3] == [
            "temperature 0.5 ──────────── │ temperature 0.8 ──────────── │ temperature 1.1 ────────────",
            "Who? to be or not to be that │ Who? to be or not to be that │ Who? to be or not to be that",
            "is the question whether it   │ is the question whether it   │ is the question whether it",
        ]


async def test_samples_in_a_low_panel_are_one_long_text() -> None:
    app = Stage("samples", full(["word"] * 40))
    async with app.run_test(size=(40, 6)) as pilot:
        await pilot.pause()
        assert app.rows[0].startswith("temperature 0.5")
        await pilot.press("down", "down", "down")
        assert not app.rows[0].startswith("temperature 0.5")


async def test_the_prompt_is_dim() -> None:
    app = Stage("samples", full())
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        first, second, *_ = app.panel.render_line(1)
        assert (first.text, first.style) == ("cat dog f", app.panel.palette.muted)
        assert second.style == app.panel.palette.text


def test_text_is_broken_at_blanks_and_by_cells() -> None:
    def rows(text: str, width: int) -> list[str]:
        return [text[start:end] for start, end in wrapped(text, width)]

    assert rows("one two three", 7) == ["one two", "three"]
    assert rows("one two three", 8) == ["one two", "three"]
    assert rows("a\n\n  b", 5) == ["a", "", "  b"]
    assert rows("abcdefgh", 3) == ["abc", "def", "gh"]
    assert rows("猫猫猫", 5) == ["猫猫", "猫"]
    assert rows("猫", 1) == ["猫"]
    assert rows("", 4) == [""]


@given(st.text(st.sampled_from("ab 猫\n\u0301"), max_size=60), st.integers(1, 12))
def test_breaking_loses_only_blanks_and_newlines(text: str, width: int) -> None:
    found = wrapped(text, width)
    kept = "".join(text[start:end] for start, end in found)
    assert kept.replace(" ", "") == text.replace(" ", "").replace("\n", "")
    assert all(start <= end for start, end in found)


# ---------------------------------------------------------------------- files of strangers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.lists(st.integers(-2, 5) | st.floats(0, 1) | st.just(float("nan")), max_size=4)


def verdicts(data: bytes) -> object:
    found = parse_json(ProbesFile, data)
    return [found.verdict(number) for number in range(len(found.worst))]


PARSERS: dict[str, Callable[[bytes], object]] = {
    "confusion": parse_confusion,
    "probes": verdicts,
    "histogram": lambda data: (lambda found: (found.counts, found.rare))(parse_json(HistogramFile, data)),
    "text": parse_text,
    "png": decode_png,
}
FIELDS = {
    "labels": st.lists(st.text(max_size=3), max_size=3), "counts": st.lists(NUMBERS, max_size=3), "drawn": NUMBERS,
    "images": st.integers(-1, 9), "targets": NUMBERS, "predicted": NUMBERS, "confidence": NUMBERS, "worst": NUMBERS,
    "prompt": st.text(max_size=3),
    "samples": st.lists(st.fixed_dictionaries({"temperature": st.floats(), "text": st.text(max_size=3)}), max_size=3),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
@settings(deadline=None)
@given(data=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_break_a_parser(name: str, data: bytes) -> None:
    with pytest.raises(DamagedError, match="damaged"):
        PARSERS[name](data)


@pytest.mark.parametrize("name", PARSERS)
@settings(deadline=None)
@given(value=st.fixed_dictionaries({}, optional=FIELDS) | st.fixed_dictionaries(FIELDS))
def test_no_json_of_the_right_names_breaks_a_parser(name: str, value: dict[str, Any]) -> None:
    try:
        PARSERS[name](json.dumps(value).encode())
    except DamagedError as error:
        assert len(str(error)) < 260


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 255), st.integers(1, 500))
def test_no_bytes_break_the_decoder_of_images(at: int, value: int, length: int) -> None:
    data = bytearray(png(3, 3, 8, "RGB"))
    data[at % len(data)] = value
    with suppress(DamagedError):
        assert decode_png(bytes(data)[:length]).ndim == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_is_read(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (6, 4)).save(file, "PNG")
    assert decode_png(file.getvalue()).shape == (4, 6, 1)


def test_no_other_format_and_no_huge_image_is_decoded() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "GIF")
    with pytest.raises(DamagedError):
        decode_png(file.getvalue())
    data = bytearray(png(1, 1, 8))
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    with pytest.raises(DamagedError, match="100000 x 100000"):
        decode_png(bytes(data))


@given(st.dictionaries(st.sampled_from(["count", "columns", "height", "width"]), st.integers(-1, 99) | JSON))
def test_no_details_break_the_cutting_of_a_grid(details: dict[str, Any]) -> None:
    with suppress(DamagedError):
        assert parse_grid(details, png(3, 2, 8)).shape[0] == details["count"]


def test_limits() -> None:
    with pytest.raises(DamagedError):
        parse_confusion(json.dumps(confusion(1001)).encode())
    with pytest.raises(DamagedError):
        parse_confusion(b'{"labels": ["a"], "counts": [[' + b"-1," * 100_000 + b"1]]}")
    with pytest.raises(DamagedError):
        parse_confusion(b"[" * 100_000)
    with pytest.raises(DamagedError):
        parse_text(json.dumps({"prompt": "", "samples": [{"temperature": 1, "text": "a" * 20_001}]}).encode())


@pytest.mark.parametrize("name", PANELS)
async def test_nothing_raw_reaches_the_terminal_at_any_size(name: str) -> None:
    labels = [HOSTILE, "x" * 10_000, "", "\u202e" * 50, "[/bold]", "\u0301\u0301"]
    app = Stage(name, full(labels))
    async with app.run_test(size=(120, 40)) as pilot:
        for size in ((120, 40), (1, 1), (2, 2), (3, 3), (5, 4), (13, 5), (60, 20), (300, 100), (300, 3), (4, 100)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            for keys in ((), ("left", "end", "enter"), ("escape", "c")):
                await pilot.press(*keys)
                text = "".join(app.rows) + app.below
                assert not [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs")]
                width = app.panel.content_size.width
                for y in range(app.panel.content_size.height):
                    assert sum(segment.cell_length for segment in app.panel.render_line(y)) == width


@pytest.mark.parametrize("name", PANELS)
async def test_follows_the_theme(name: str) -> None:
    app = Stage(name, full())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        dark = app.panel.render_line(0)
        app.theme = "textual-light"
        await pilot.pause()
        assert app.panel.render_line(0) != dark


@pytest.mark.parametrize("name", PANELS)
def test_panels_explain_themselves(name: str) -> None:
    panel = PANELS[name](Files())
    assert panel.TITLE
    assert len(panel.ABOUT.split("\n\n")) >= 3
    assert "larming" in panel.ABOUT
