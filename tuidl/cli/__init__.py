"""The commands. Each imports what it needs when it runs, so that `tuidl --help` loads neither torch nor numpy."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tuidl import __version__
from tuidl.errors import TuidlError
from tuidl.text import clean


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every error a user can meet is one or two lines on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign shows a question mark
    code = 0
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except TuidlError as error:
        print(f"tuidl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except Exception as error:
        print(
            f"tuidl: internal error: {clean(str(error), limit=200)} ({type(error).__name__}); {_log(error)}",
            file=sys.stderr,
        )
        return 1


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit:
        sys.stdout.flush()  # so that a closed pipe is noticed here
        raise
    if not hasattr(args, "handler"):
        if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
            parser.print_help()
            return 0
        args.handler, args.runs_dir, args.data_dir = lambda args: _lazy("screen").home(args), None, None
    code: int = args.handler(args)
    return code


def _log(error: Exception) -> str:
    """Append the traceback to the log and say where that is."""
    import traceback

    import platformdirs

    path = platformdirs.user_log_path("tuidl") / "tuidl.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return "its traceback could not be kept"
    return f"its traceback is in {path}"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="tuidl", description="Train neural networks from a terminal and watch them learn.",
        epilog="`tuidl` alone opens the screen, `tuidl run mnist-mlp` does without. `tuidl COMMAND --help` says more.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"tuidl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands)
    attach = commands.add_parser("attach", help="open the screen on a run, live or finished, with full control")
    attach.add_argument("run", nargs="?", metavar="RUN", help="a run's name or a beginning of it; default the newest")
    _data_option(attach)
    _runs_option(attach)
    attach.set_defaults(handler=lambda args: _lazy("screen").attach(args))
    _add_lists(commands)
    _add_steering(commands)
    from tuidl.cli import data

    data.add_parser(commands)
    doctor = commands.add_parser("doctor", help="say what works here, what does not, and what to do")
    _runs_option(doctor)
    _data_option(doctor)
    _json_option(doctor)
    doctor.set_defaults(handler=lambda args: _lazy("doctor").doctor(args))
    return parser


def _lazy(name: str):  # type: ignore[no-untyped-def]
    import importlib

    return importlib.import_module(f"tuidl.cli.{name}")


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser("run", help="train a preset, a preset file, or repeat a run")
    run.add_argument("target", metavar="PRESET|FILE.toml|RUN", help="what to train; `tuidl presets` lists the presets")
    run.add_argument("--set", dest="overrides", action="append", default=[], metavar="group.key=value",
                     help="change a setting, for example --set optimizer.lr=0.01; may be given often")  # fmt: skip
    run.add_argument("--epochs", type=int, metavar="N", help="passes over the training data")
    run.add_argument("--max-steps", type=int, metavar="N", help="end after this many steps")
    run.add_argument("--device", metavar="auto|cpu|cuda|cuda:1|mps", help="where to train")
    run.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same run")
    run.add_argument("--name", metavar="NAME", help="name of the run; made from preset and time by default")
    run.add_argument("--detach", action="store_true", help="train in the background and return at once")
    run.add_argument("--offline", action="store_true", help="never download; use the stand-in where data is missing")
    run.add_argument("--share", action="store_true", help="let your group read the run and watch it, but not steer it")
    run.add_argument("--quiet", action="store_true", help="print the result only")
    _data_option(run)
    _runs_option(run)
    _json_option(run)
    run.set_defaults(handler=lambda args: _lazy("run").run(args))
    resume = commands.add_parser("resume", help="go on with a run from its newest sound checkpoint")
    _run_argument(resume)
    resume.add_argument("--detach", action="store_true", help="train in the background and return at once")
    resume.add_argument("--quiet", action="store_true", help="print the result only")
    _resume_options(resume)
    _runs_option(resume)
    _json_option(resume)
    resume.set_defaults(handler=lambda args: _lazy("run").resume(args), resume=True)
    trainer = commands.add_parser("_train")  # what --detach starts; not for people, so without a help text
    trainer.add_argument("directory", type=Path)
    trainer.add_argument("--resume", action="store_true")
    _resume_options(trainer)
    trainer.set_defaults(handler=lambda args: _lazy("run").train_detached(args))
    companion = commands.add_parser("_companion")  # what the screen starts, to answer it and then to train
    companion.set_defaults(handler=lambda args: _lazy("run").companion(args))


def _resume_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="group.key=value",
                        help="change a live setting from here on, for example --set optimizer.lr=0.001")  # fmt: skip
    parser.add_argument("--device", metavar="auto|cpu|cuda|cuda:1|mps", help="go on there instead")
    parser.add_argument("--offline", action="store_true", help="never download")
    parser.add_argument(
        "--take-over", action="store_true", help="go on although the last trainer was on a machine that is silent now"
    )


def _add_lists(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    presets = commands.add_parser("presets", help="list the presets, or explain one with all its settings")
    presets.add_argument("name", nargs="?", metavar="NAME", help="a preset, or a FILE.toml")
    _json_option(presets)
    presets.set_defaults(handler=lambda args: _lazy("lists").presets(args))
    runs = commands.add_parser("runs", help="list the runs, newest first")
    _runs_option(runs)
    _json_option(runs)
    runs.set_defaults(handler=lambda args: _lazy("lists").runs(args))
    show = commands.add_parser("show", help="show one run: its curves, its result, what happened")
    _run_argument(show)
    _runs_option(show)
    _json_option(show)
    show.set_defaults(handler=lambda args: _lazy("show").show(args))


def _add_steering(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for verb, help_text in {
        "pause": "hold a run after its next step; the model stays in memory",
        "continue": "go on with a paused run",
        "stop": "end a run after its next step, with a checkpoint",
        "evaluate-now": "measure on the validation data now, without a change to the run",
        "sample-now": "write text or draw images now",
        "checkpoint": "save a checkpoint now and go on",
    }.items():
        command = commands.add_parser(verb, help=help_text)
        _run_argument(command)
        _runs_option(command)
        command.set_defaults(handler=lambda args, verb=verb: _lazy("steer").steer(args, verb))
    step = commands.add_parser("step", help="train a number of steps, then hold the run")
    _run_argument(step)
    step.add_argument("count", nargs="?", default="1", metavar="N", help="how many steps; default 1")
    _runs_option(step)
    step.set_defaults(handler=lambda args: _lazy("steer").steer(args, "steps", count=args.count))
    kill = commands.add_parser("kill", help="end a trainer that does not listen to stop: at once, without a checkpoint")
    _run_argument(kill)
    _runs_option(kill)
    kill.set_defaults(handler=lambda args: _lazy("steer").kill_trainer(args))
    change = commands.add_parser("set", help="change a live setting of a training run")
    _run_argument(change)
    change.add_argument("change", metavar="KEY=VALUE", help="for example optimizer.lr=0.001")
    _runs_option(change)
    change.set_defaults(handler=lambda args: _lazy("steer").set_live(args))


def _run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name, a unique beginning of it, or its directory")


def _runs_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs-dir",
        type=Path,
        metavar="DIR",
        help="where runs are kept; default $TUIDL_RUNS_DIR, else the user's state directory",
    )


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where data sets are; default $TUIDL_DATA_DIR, else the user's data directory",
    )


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON Lines on stdout")
