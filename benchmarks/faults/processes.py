"""Campaigns against the process that trains: killed, told to end, stopped, doubled, taken for another."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from faults.campaign import NotHere, Trials, campaign
from faults.lab import (
    BEGINNING,
    HOST,
    PRESETS,
    SEED,
    BrokenError,
    Lab,
    Moment,
    Trial,
    attempts,
    check_completed,
    check_same,
    check_sound,
    heed_signals,
    hold,
    last_line,
    process_state,
    read_logs,
    story_of,
    until,
)
from tuidl.errors import UsageError
from tuidl.runs import Identity, RunPaths, alive, kill, read_state, read_status, send
from tuidl.runs.launch import TUIDL
from tuidl.runs.status import write_end

NAMES = list(PRESETS)
CUT_OFF = "sample"  # what a signal may cut off for good, as nothing that follows depends on it


# ---------------------------------------------------------------- killed


@campaign(
    "sigkill", "A run that is killed at any moment goes on from the newest checkpoint it told of, to its end.",
    small=40, full=1000,
)  # fmt: skip
def sigkill(root: Path, count: int) -> Trials:
    """Kill each run once, some of them once more after they were resumed."""
    with Lab(root) as lab:

        def carry_out(trial: Trial) -> None:
            preset = NAMES[trial.number % len(NAMES)]
            whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
            cold = lab.root / f"cache-{trial.number}"  # in which no judge of a GAN is kept yet
            more: dict[str, Any] = {"cache": cold} if trial.random.random() < 0.3 else {}
            trial.note(f"{preset}{' without a judge' if more else ''}")
            for turn in range(1 if trial.random.random() < 0.8 else 2):
                moment = whole.moment(trial.random, signal.SIGKILL)
                trial.note(str(moment))
                words = ["--resume"] if turn else []
                code = lab.run(paths, *words, moment=moment, **more)
                hold(code in (0, 137), f"it ends with {code}: {last_line(paths.trainer_log)}")
                if code == 0:
                    break
                least = _least_step(paths, torn=turn)
                check_sound(paths)
                hold(read_state(paths)[1] in ("lost", "unreadable", "completed"), f"it looks {read_state(paths)[1]}")
            if read_state(paths)[1] != "completed":
                code = lab.run(paths, "--resume", **more)
                hold(code == 0, f"resume ends with {code}: {last_line(paths.trainer_log)}")
                events, _ = read_logs(paths, torn=2)
                at = [event["step"] for event in events if event["event"] == "resumed"][-1]
                hold(at >= least, f"resumed from step {at}, though {least} was safe")
            check_completed(paths, torn=2)
            left = [path.name for path in cold.rglob("*.tmp")]
            hold(not left, f"left in the cache: {', '.join(left)}")
            lab.remove(paths)
            shutil.rmtree(cold, ignore_errors=True)

        yield from attempts("sigkill", count, carry_out)


def _least_step(paths: RunPaths, torn: int) -> int:
    """Return the step from which a run that was killed must go on at least.

    That is the newest checkpoint of which it told. And whatever it recorded of the time after an evaluation that was
    due, it recorded after the checkpoint that follows each.
    """
    events, blocks = read_logs(paths, torn)
    begun = [number for number, event in enumerate(events) if event["event"] == "resumed"][-1:]
    told = [
        event["step"] for event in events[begun[0] if begun else 0 :] if event["event"] in ("checkpoint", "resumed")
    ]
    every = 1
    if paths.spec.exists():
        import json

        every = json.loads(paths.spec.read_bytes())["spec"]["evaluation"]["every_steps"]
    reached = blocks[-1].first_step + blocks[-1].count - 1 if blocks else 0
    return max([*told, (reached - 1) // every * every, 0])


@campaign(
    "bitwise", "A run that was killed and resumed, however often, is the undisturbed run to the bit.",
    small=12, full=100,
)  # fmt: skip
def bitwise(root: Path, count: int) -> Trials:
    """Kill each run one to three times; every fresh dozen of trials has another seed."""
    with Lab(root) as lab:

        def carry_out(trial: Trial) -> None:
            preset, seed = NAMES[trial.number % len(NAMES)], SEED + trial.number // 12
            whole, paths = lab.whole(preset, seed), lab.new_run(preset, seed)
            trial.note(preset)
            for turn in range(trial.random.randint(1, 3)):
                moment = whole.moment(trial.random, signal.SIGKILL)
                trial.note(str(moment))
                if lab.run(paths, *(["--resume"] if turn else []), moment=moment) == 0:
                    break
            if read_state(paths)[1] != "completed":
                lab.resume(paths)
            check_same(story_of(paths), whole.story)
            lab.remove(paths)

        yield from attempts("bitwise", count, carry_out)


# ---------------------------------------------------------------- told to end


@campaign(
    "sigterm", "SIGTERM and SIGINT end a run with a checkpoint at any moment; SIGUSR1 saves one and the run goes on.",
    small=20, full=100,
)  # fmt: skip
def sigterm(root: Path, count: int) -> Trials:
    """In six of ten trials one signal at any moment; in one each while paused, twice, SIGUSR1, and the real command."""
    with Lab(root) as lab:
        kinds = {6: _while_paused, 7: _save_and_go_on, 8: _twice, 9: _in_the_foreground}

        def carry_out(trial: Trial) -> None:
            kinds.get(trial.number % 10, _at_any_moment)(lab, trial)

        yield from attempts("sigterm", count, carry_out)


def _at_any_moment(lab: Lab, trial: Trial) -> None:
    preset = NAMES[trial.number % len(NAMES)]
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    cold = lab.root / f"cache-{trial.number}"  # so that a judge is trained first
    moment = whole.moment(trial.random, trial.random.choice([signal.SIGTERM, signal.SIGINT]))
    trial.note(f"{preset}, {moment}")
    code = lab.run(paths, moment=moment, cache=cold)
    _check_ended(paths, code, moment.number)
    if code:
        lab.resume(paths)
    check_same(story_of(paths), whole.story, lacking=CUT_OFF)
    lab.remove(paths)


def _while_paused(lab: Lab, trial: Trial) -> None:
    preset, number = trial.random.choice(NAMES), trial.random.choice([signal.SIGTERM, signal.SIGINT])
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    trial.note(f"{preset}, {signal.Signals(number).name} while paused")
    send(paths, "pause")
    pid = lab.start(paths)
    until(lambda: read_state(paths)[1] == "paused", "it was paused")
    os.kill(pid, number)
    _check_ended(paths, lab.wait(pid), number, at_once=False)
    lab.resume(paths)
    check_same(story_of(paths), whole.story, lacking=CUT_OFF)
    lab.remove(paths)


def _save_and_go_on(lab: Lab, trial: Trial) -> None:
    preset = trial.random.choice(NAMES)
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    moment = whole.moment(trial.random, signal.SIGUSR1, kinds=("event", "file", "save"))
    trial.note(f"{preset}, {moment}")
    code = lab.run(paths, moment=moment)
    hold(code == 0, f"it ends with {code}: {last_line(paths.trainer_log)}")
    events, _ = read_logs(paths, torn=0)
    answers = [number for number, event in enumerate(events) if event.get("id") == "signal-save"]
    if answers:  # a signal that comes when all is done has no answer
        answer = events[answers[0]]
        saved = [event["step"] for event in events[answers[0] :] if event["event"] == "checkpoint"]
        hold(saved or not answer["ok"], f"no checkpoint was written after the answer {answer}")
    check_same(story_of(paths), whole.story)
    check_completed(paths, torn=0)
    lab.remove(paths)


def _twice(lab: Lab, trial: Trial) -> None:
    """The second signal ends a run at once; it goes on from what it has saved."""
    preset = trial.random.choice(NAMES)
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    moment = whole.moment(trial.random, signal.SIGTERM, kinds=("event",))
    wait = trial.random.choice([0, 0.001, 0.01, 0.1])
    trial.note(f"{preset}, {moment}, and once more {wait} s after that")
    pid = lab.start(paths, moment=moment)
    time.sleep(trial.random.uniform(0, whole.time) if wait else 0)
    os.kill(pid, signal.SIGTERM)
    time.sleep(wait)
    os.kill(pid, signal.SIGTERM)
    code = lab.wait(pid)
    hold(code in (0, 143), f"it ends with {code}: {last_line(paths.trainer_log)}")
    state = read_state(paths)[1]
    hold(state in (("completed",) if code == 0 else ("stopped", "failed", "unreadable")), f"it looks {state}")
    if code:
        lab.resume(paths)
    check_same(story_of(paths), whole.story, lacking=CUT_OFF)
    lab.remove(paths)


def _in_the_foreground(lab: Lab, trial: Trial) -> None:
    """The real command, from the moment it is called."""
    number = trial.random.choice([signal.SIGTERM, signal.SIGINT])
    seconds = trial.random.uniform(0, 5)
    whole, name = lab.whole("char-lstm", SEED), f"command-{trial.number}"
    trial.note(f"tuidl run, {signal.Signals(number).name} after {seconds:.3f} s")
    settings = [f"--set={item}" for item in lab.settings("char-lstm", SEED)]
    with subprocess.Popen(
        [*TUIDL, "run", "char-lstm", "--offline", "--json", f"--name={name}", *settings],
        env=lab.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=heed_signals,
    ) as process:  # fmt: skip
        time.sleep(seconds)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    paths = RunPaths(lab.root / "runs" / name)
    hold(code in (0, 128 + number), f"it ends with {code}: {said.decode()[-300:]}")
    if not paths.spec.exists():  # it had not begun
        return
    _check_ended(paths, code, number)
    if code:
        lab.resume(paths)
    check_same(story_of(paths), whole.story, lacking=CUT_OFF)


def _newest(paths: RunPaths) -> int:
    """Return the step of the newest checkpoint, -1 where there is none."""
    return max((int(path.stem.partition("-")[2]) for path in paths.checkpoints.glob("step-*")), default=-1)


def _check_ended(paths: RunPaths, code: int, number: int, at_once: bool = True) -> None:
    """Hold that a run tells how it was ended, as completed where it was just done.

    It may be ended `at_once` before its first step, when there is nothing yet to save.
    """
    status, state = read_state(paths)
    if code == 0:
        hold(state == "completed", f"it ends with 0 and looks {state}")
        return
    hold(code == 128 + number, f"it ends with {code}: {last_line(paths.trainer_log)}")
    _, blocks = read_logs(paths, torn=0)
    if status is None:
        hold(at_once and not blocks, "it has trained and has no status")
    elif state == "failed":
        hold(at_once and not blocks and "at once by a signal" in status.reason, f"it has failed: {status.reason}")
    else:
        hold(state == "stopped", f"it looks {state}")
        hold(status.exit_code == code, f"the status tells of exit code {status.exit_code}")
        reached = blocks[-1].first_step + blocks[-1].count - 1 if blocks else 0
        hold(
            _newest(paths) == reached, f"it has trained {reached} steps, and its newest checkpoint is {_newest(paths)}"
        )
    left = [path.name for path in paths.directory.rglob("*") if path.name.endswith(".tmp") or path.name == "reserve"]
    hold(not left, f"left lying about: {', '.join(left)}")


# ---------------------------------------------------------------- doubled


@campaign(
    "race", "Of many that resume a run at once exactly one trains; each other one says why not in one line.",
    small=10, full=100,
)  # fmt: skip
def race(root: Path, count: int) -> Trials:
    """Four at a time, many more at full size; each tenth round with the real command, each tenth in the background."""
    rivals = 4 if count < 50 else 20
    with Lab(root) as lab:
        stopped: dict[str, RunPaths] = {}

        def carry_out(trial: Trial) -> None:
            preset = NAMES[trial.number % 3] if trial.number % 10 < 8 else "char-lstm"
            whole = lab.whole(preset, SEED)
            if preset not in stopped:
                stopped[preset] = lab.new_run(preset, SEED)
                code = lab.run(stopped[preset], moment=Moment("event", whole.event // 4, signal.SIGTERM))
                hold(code == 143, f"it ends with {code} and not by the signal")
            paths = lab.copy(stopped[preset])
            trial.note(f"{preset}, {rivals} rivals")
            if trial.number % 10 < 8:
                codes, said = _rivals(lab, paths, rivals, trial)
            else:
                codes, said = _rival_commands(lab, paths, rivals, trial, detached=trial.number % 10 == 9)
            hold(sorted(codes) == [0] + [2] * (rivals - 1), f"they end with {sorted(codes)}, saying {said}")
            for code, line in zip(codes, said, strict=True):
                hold(code == 0 or (line.startswith("tuidl: ") and line.count("\n") == 1), f"a rival says {line!r}")
            until(lambda: not _trained(paths), "the trainer had ended")
            check_completed(paths, torn=0)
            events, _ = read_logs(paths, torn=0)
            begun = [event["step"] for event in events if event["event"] == "resumed"]
            hold(len(begun) == 1, f"it was resumed {len(begun)} times")
            check_same(story_of(paths), whole.story, lacking=CUT_OFF)
            lab.remove(paths)

        yield from attempts("race", count, carry_out)


def _trained(paths: RunPaths) -> bool:
    status = read_status(paths)
    return bool(status and status.identity and alive(status.identity))


def _rivals(lab: Lab, paths: RunPaths, rivals: int, trial: Trial) -> tuple[list[int], list[str]]:
    """Let trainers go at the same moment, or nearly so; return their exit codes and what they said."""
    spread = trial.random.choice([0.0, 0.001, 0.01, 0.1])
    trial.note(f"within {spread} s")
    logs = [paths.directory.with_name(f"{paths.name}-{number}.log") for number in range(rivals)]
    begin = time.monotonic() + 0.02 * rivals
    pids = [
        lab.start(paths, "--resume", log=log, at=begin + trial.random.uniform(0, spread)) for log in logs
    ]  # fmt: skip
    codes = [lab.wait(pid) for pid in pids]
    said = [log.read_text() for log in logs]
    for log in logs:
        log.unlink()
    return codes, said


def _rival_commands(
    lab: Lab, paths: RunPaths, rivals: int, trial: Trial, detached: bool
) -> tuple[list[int], list[str]]:
    """Do the same with `tuidl resume`, which has torch to load first."""
    words = [*TUIDL, "resume", paths.name, "--offline", "--json", *(["--detach"] if detached else [])]
    spread = trial.random.choice([0.0, 0.3, 1.0])
    trial.note(f"with tuidl resume{' --detach' if detached else ''}, {spread} s apart")
    commands = []
    for _ in range(rivals):
        commands.append(
            subprocess.Popen(
                words, env=lab.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True,
            )
        )  # fmt: skip
        time.sleep(spread / rivals)
    said = [command.communicate(timeout=300)[1] for command in commands]
    return [command.returncode for command in commands], said


# ---------------------------------------------------------------- taken for another


@campaign(
    "stale", "Lost, stopped, rebooted, recycled and far away are told apart, and nobody else's process is touched.",
    small=6, full=40,
)  # fmt: skip
def stale(root: Path, count: int) -> Trials:
    """Each kind of trainer that may or may not be there, in turn."""
    if not process_state(os.getpid()):
        raise NotHere("/proc, which tells what a process does")
    kinds = [_lost, _stopped, _rebooted, _recycled, _far_away, _overtaken]
    with Lab(root) as lab:

        def carry_out(trial: Trial) -> None:
            kind = kinds[trial.number % len(kinds)]
            trial.note(kind.__name__.strip("_").replace("_", " "))
            bystander = subprocess.Popen(["sleep", "600"])  # which any signal would end
            try:
                kind(lab, trial, bystander.pid)
                hold(bystander.poll() is None and process_state(bystander.pid) == "S", "a stranger was signalled")
            finally:
                bystander.kill()
                bystander.wait()

        yield from attempts("stale", count, carry_out)


def _killed_run(lab: Lab, trial: Trial) -> tuple[str, RunPaths]:
    """Return a run whose trainer was killed in the middle."""
    preset = trial.random.choice(NAMES)
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    moment = Moment("event", whole.event * trial.random.uniform(0.3, 0.9) // 1, signal.SIGKILL)
    trial.note(f"{preset}, {moment}")
    hold(lab.run(paths, moment=moment) == 137, "it was not killed")
    return preset, paths


def _disguise(paths: RunPaths, **changes: Any) -> None:
    """Let the newest claim and the status of a run name another process."""
    newest = max(paths.directory.glob("owner-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    identity = Identity.model_validate_json(newest.read_bytes()).model_copy(update=changes)
    newest.write_text(identity.model_dump_json())
    status = read_status(paths)
    hold(status and status.exit_code is None, "the run has no trainer")
    if status:
        write_end(paths, status.model_copy(update={"identity": identity}), status.state, "", 0)  # type: ignore[arg-type]
        text = paths.status.read_text().replace('"exit_code":0', '"exit_code":null')
        paths.status.write_text(text)


def _refused(lab: Lab, paths: RunPaths, *words: str, told: str) -> None:
    code = lab.run(paths, "--resume", *words, log=(log := lab.root / "refused.log"))
    said = log.read_text()
    log.unlink()
    hold(code == 2 and told in said, f"resume {' '.join(words)} ends with {code}: {said}")


def _not_killed(paths: RunPaths, told: str) -> None:
    try:
        said = kill(paths)
    except UsageError as error:
        hold(told in str(error), f"kill is refused for another reason: {error}")
        return
    raise BrokenError(f"kill says {said}")


def _goes_on(lab: Lab, preset: str, paths: RunPaths, *words: str) -> None:
    code = lab.run(paths, "--resume", *words)
    hold(code == 0, f"resume ends with {code}: {last_line(paths.trainer_log)}")
    check_completed(paths)
    check_same(story_of(paths), lab.whole(preset, SEED).story)
    lab.remove(paths)


def _lost(lab: Lab, trial: Trial, bystander: int) -> None:
    preset, paths = _killed_run(lab, trial)
    hold(read_state(paths)[1] == "lost", f"it looks {read_state(paths)[1]}")
    _not_killed(paths, "ended already")
    _goes_on(lab, preset, paths)


def _rebooted(lab: Lab, trial: Trial, bystander: int) -> None:
    """The number of the trainer before the reboot is another process now."""
    preset, paths = _killed_run(lab, trial)
    ticks = Identity.current().model_copy(update={"pid": bystander}).start_ticks
    _disguise(paths, boot_id="0" * 36, pid=bystander, start_ticks=ticks)
    hold(read_state(paths)[1] == "lost", f"it looks {read_state(paths)[1]}")
    _not_killed(paths, "ended already")
    _goes_on(lab, preset, paths)


def _recycled(lab: Lab, trial: Trial, bystander: int) -> None:
    """A stranger has the number of the trainer, and has begun at another time."""
    preset, paths = _killed_run(lab, trial)
    _disguise(paths, pid=bystander)
    hold(read_state(paths)[1] == "lost", f"it looks {read_state(paths)[1]}")
    _not_killed(paths, "ended already")
    _goes_on(lab, preset, paths)


def _far_away(lab: Lab, trial: Trial, bystander: int) -> None:
    """The trainer may live on another machine, where a stranger here has its number."""
    preset, paths = _killed_run(lab, trial)
    _disguise(paths, host=f"not-{HOST}", boot_id="1" * 36, pid=bystander)
    hold(read_state(paths)[1] in ("running", "evaluating"), f"it looks {read_state(paths)[1]}")
    _refused(lab, paths, told="--take-over")
    _not_killed(paths, "kill it there")
    _goes_on(lab, preset, paths, "--take-over")


def _stopped(lab: Lab, trial: Trial, bystander: int) -> None:
    """A trainer that was stopped is there, and goes on when it may."""
    preset = trial.random.choice(NAMES)
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    moment = Moment("event", whole.event * trial.random.uniform(0.2, 0.8) // 1, signal.SIGSTOP)
    trial.note(f"{preset}, {moment}")
    pid = lab.start(paths, moment=moment)
    until(lambda: process_state(pid) == "T", "it was stopped")
    hold(read_state(paths)[1] in ("running", "evaluating"), f"it looks {read_state(paths)[1]}")
    _refused(lab, paths, told="is being trained")
    _refused(lab, paths, "--take-over", told="is being trained")
    hold(process_state(pid) == "T", "it was signalled")
    os.kill(pid, signal.SIGCONT)
    code = lab.wait(pid)
    hold(code == 0, f"it ends with {code}: {last_line(paths.trainer_log)}")
    check_completed(paths, torn=0)
    check_same(story_of(paths), whole.story)
    lab.remove(paths)


def _overtaken(lab: Lab, trial: Trial, bystander: int) -> None:
    """A trainer on a machine that went silent, and whose run was taken over, writes nothing when it wakes up.

    Where it fell asleep with a file half written, the record or the picture that it was at may still arrive, and the
    old checkpoint that it was about to remove may go.
    """
    preset = trial.random.choice(NAMES)
    whole, paths = lab.whole(preset, SEED), lab.new_run(preset, SEED)
    moment = whole.moment(trial.random, signal.SIGSTOP, kinds=("event", "file", "save"))
    moment = Moment(moment.kind, moment.at * 0.7 // 1 + BEGINNING[moment.kind], signal.SIGSTOP)
    trial.note(f"{preset}, {moment}")
    pid = lab.start(paths, moment=moment)
    until(lambda: process_state(pid) == "T", "it was stopped")
    _disguise(paths, host=f"not-{HOST}", boot_id="1" * 36)  # as it looks from another machine
    rival = None
    if trial.random.random() < 0.5:  # the new one is still at it when the old one wakes up
        rival = lab.start(paths, "--resume", "--take-over", moment=Moment("event", whole.event // 4, signal.SIGSTOP))
        until(lambda: process_state(rival) in ("T", "Z"), "the new trainer was stopped")
    else:
        code = lab.run(paths, "--resume", "--take-over")
        hold(code == 0, f"--take-over ends with {code}: {last_line(paths.trainer_log)}")
    trial.note(f"taken over {'in part' if rival else 'to the end'}")
    before = _files(paths)
    os.kill(pid, signal.SIGCONT)
    code = lab.wait(pid)
    hold(code == 2, f"the old trainer ends with {code}: {last_line(paths.trainer_log)}")
    after = _files(paths)
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    if moment.kind != "event":
        changed -= {name for name in changed if name.endswith(".log") or name.startswith("artifacts/")}
        changed -= {name for name in changed if name.startswith("checkpoints/") and name not in after}
    hold(not changed, f"the old trainer has changed {', '.join(sorted(changed))}")
    if rival:
        os.kill(rival, signal.SIGCONT)
        code = lab.wait(rival)
        hold(code == 0, f"the new trainer ends with {code}: {last_line(paths.trainer_log)}")
    check_completed(paths)
    check_same(story_of(paths), whole.story)
    lab.remove(paths)


def _files(paths: RunPaths) -> dict[str, bytes]:
    """Return what a run consists of, its log and the claim that is given back left out."""
    return {
        str(path.relative_to(paths.directory)): path.read_bytes()
        for path in paths.directory.rglob("*")
        if path.is_file() and path != paths.trainer_log and not path.name.startswith("owner-")
    }
