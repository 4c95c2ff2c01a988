"""Pictures of the program at work: drives the real screens over real runs and writes SVG and PNG beside this file.

    python screenshots/make.py --runs-dir DIR

DIR should hold a run of each preset (`tuidl run PRESET --runs-dir DIR`); the newest of each is shown. PNG needs
rsvg-convert (package librsvg2-bin) and the font DejaVu Sans Mono.
"""

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

os.environ["TEXTUAL_COLOR_SYSTEM"] = "truecolor"  # read when Textual is loaded

from textual.pilot import Pilot

from tuidl.runs import list_runs
from tuidl.tui.app import TuidlApp
from tuidl.tui.screens.dashboard import DashboardScreen

HERE = Path(__file__).parent
SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
Script = Callable[[Pilot[int]], Awaitable[None]]


async def settle(pilot: Pilot[int], seconds: float = 1.0) -> None:
    """Let workers bring what they bring."""
    await pilot.pause(seconds)
    screen = pilot.app.screen
    while isinstance(screen, DashboardScreen) and (screen.snapshot is None or screen.feed.more):
        await pilot.pause(0.1)
    await pilot.pause(0.2)


async def setup(pilot: Pilot[int]) -> None:
    """From Home into Set-up."""
    await settle(pilot, 2)
    await pilot.press("enter")
    await settle(pilot, 12)


async def take(name: str, size: tuple[int, int], app: TuidlApp, script: Script) -> None:
    """Run the program, do what `script` says, and write the picture."""
    async with app.run_test(size=size) as pilot:
        await script(pilot)
        svg = pilot.app.export_screenshot(title=f"tuidl · {size[0]}x{size[1]}")
    path = HERE / f"{name}.svg"
    path.write_text(svg)
    picture(path)
    print(path.name, flush=True)


def picture(path: Path) -> None:
    """Write the PNG of an SVG; the font is one that is everywhere, and runs of blanks keep their width."""
    if not shutil.which("rsvg-convert"):
        return
    text = path.read_text().replace("Fira Code", "DejaVu Sans Mono")
    text = re.sub(r"@font-face\s*\{.*?\}", "", text, flags=re.DOTALL)
    text = _TEXT.sub(_apart, text)
    subprocess.run(["rsvg-convert", "-o", str(path.with_suffix(".png"))], input=text.encode(), check=True)


_TEXT = re.compile(r'<text ([^>]*?)x="([\d.]+)"([^>]*?)textLength="([\d.]+)"([^>]*)>([^<]*)</text>')


def _apart(found: re.Match[str]) -> str:
    """Give every sign its own place: a font without braille would push all that follows it aside."""
    before, x, middle, length, after, content = found.groups()
    signs = re.findall(r"&[^;]+;|.", content)
    if all(len(sign) > 1 or sign.isascii() for sign in signs):
        return f'<text xml:space="preserve" {before}x="{x}"{middle}{after}>{content}</text>'
    step = float(length) / len(signs)
    return "".join(
        f'<text xml:space="preserve" {before}x="{float(x) + step * index:.1f}"{middle}{after}>{sign}</text>'
        for index, sign in enumerate(signs)
        if sign not in ("&#160;", " ")
    )


async def make(root: Path, only: str) -> None:
    """Write every picture whose name has `only` in it."""
    newest = {run.preset: run for run in reversed(list_runs(root)) if run.state == "completed"}
    for label, size in SIZES.items():
        jobs: dict[str, tuple[TuidlApp, Script]] = {
            "home": (TuidlApp(root), lambda pilot: settle(pilot, 3)),
            "setup": (TuidlApp(root), setup),
        }
        jobs |= {preset: (TuidlApp(root, run=run.paths), settle) for preset, run in sorted(newest.items())}
        for name, (app, script) in jobs.items():
            if only in f"{name}-{label}":
                await take(f"{name}-{label}", size, app, script)


def main() -> None:
    """Read the command line and make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--only", default="", help="only pictures with this in their name")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TUIDL_SETTINGS"] = str(Path(directory) / "settings.json")
        asyncio.run(make(args.runs_dir, args.only))


if __name__ == "__main__":
    main()
