"""Files made to do harm, wherever tuidl reads one: checkpoints, presets, pictures, data."""

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import zlib
from typing import Any
from unittest import mock

from faults.box import CODE, ESCAPES, Attack, Box, Payload, case, refused
from faults.lab import BrokenError, hold
from tuidl.errors import TuidlError
from tuidl.runs.writer import read_spec
from tuidl.spec import build_spec, load_preset
from tuidl.spec.datasets import DataFile, DataSet, Download
from tuidl.spec.run import CHOICES

# ---------------------------------------------------------------------- checkpoints


def _tar(*members: tuple[str, bytes | str], kind: bytes = tarfile.REGTYPE, mode: str = "w") -> bytes:
    """Return an archive; what is text instead of bytes is the goal of a link of this `kind`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = kind, data
                archive.addfile(info)
    return packed.getvalue()


def _tensors(told: str, entries: str = "", data: bytes = b"") -> bytes:
    """Return a signed safetensors file with `told` as tuidl's part of the header."""
    from tuidl.train import checkpoint

    sums = f'"sha256":"{"0" * 64}"'
    header = f'{{"__metadata__":{{{sums},"tuidl":{json.dumps(told)}}}{entries}}}'.encode()
    return checkpoint._signed(len(header).to_bytes(8, "little") + header + data)


def _evil_tensors(what: str, sound: bytes, payload: bytes, zipped: bytes) -> bytes:
    told = '{"format":2,"step":99,"values":{}}'
    entry = ',"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%s]}'
    return {
        "polyglot of both": sound + zipped,
        "pickle in the header": _tensors(payload.hex()),
        "pickle as a tensor": _tensors(told, entry % ("__reduce__", "U8", len(payload), f"0,{len(payload)}"), payload),
        "header nested": _tensors("[" * 400_000),
        "header of digits": _tensors('{"format":2,"step":' + "9" * 10_000 + "}"),
        "header of strange types": _tensors('{"format":2,"step":true,"values":[NaN]}'),
        "header with no end": (2**63).to_bytes(8, "little") + sound[8:],
        "shapes beyond memory": _tensors(told, entry % ("x", "F32", f"{2**62},{2**62}", "0,4"), b"1234"),
        "offsets beyond the file": _tensors(told, entry % ("x", "F32", "1", f"{2**40},{2**40 + 4}"), b"1234"),
        "names of paths": _tensors(told, entry % ("../../x\\u0000", "F32", "1", "0,4"), b"1234"),
    }[what]


@case(
    "pickle", "torch zip", "torch legacy", "torch tar", "numpy objects", "polyglot of both", "pickle in the header",
    "pickle as a tensor", "header nested", "header of digits", "header of strange types", "header with no end",
    "shapes beyond memory", "offsets beyond the file", "names of paths", "link", "fifo", "endless",
)  # fmt: skip
def checkpoint(box: Box, what: str) -> Attack:
    """The newest checkpoint is evil: it is passed over, and the run goes on from the one before."""
    import numpy
    import torch

    from tuidl.train.resume import Wishes, look_back

    paths, evil = box.run(), Payload(box)
    (sound,) = paths.checkpoints.glob("*.safetensors")
    payload = pickle.dumps(evil, protocol=box.random.randrange(6))
    target, data = paths.checkpoints / "step-000000099.safetensors", payload
    saved = io.BytesIO()
    if what in ("link", "fifo", "endless"):
        box.plant(target, what)
    elif what == "torch tar":
        data = _tar(("sys_info", payload), ("pickle", payload), ("storages", payload), ("tensors", payload))
    elif what == "numpy objects":
        numpy.save(saved, numpy.array([evil], dtype=object), allow_pickle=True)
        data = saved.getvalue()
    elif what == "torch legacy":
        torch.save({"weight": evil}, saved, _use_new_zipfile_serialization=False)
        data = saved.getvalue()
    elif what != "pickle":
        torch.save({"weight": evil}, saved)
        zipped = saved.getvalue()
        data = zipped if what == "torch zip" else _evil_tensors(what, sound.read_bytes(), payload, zipped)
    if not target.is_symlink() and not target.exists():
        target.write_bytes(data)
    for name in ("step-000000099.pt", "model.pkl", "archive.pth", "pytorch_model.bin"):
        (paths.checkpoints / name).write_bytes(data)

    def attack() -> None:
        past = look_back(paths, read_spec(paths), Wishes(resume=True))
        skipped = list(past.skipped) == [target.name]
        hold(past.saved and (past.saved.step < 99 or not past.saved.weights or what == "names of paths"), "believed")
        hold(skipped or past.step == 99, f"not passed over: {past.skipped}")

    return attack


@case("settings", "memory of the loop", "weights", "shapes", "random numbers", "numbers too large")
def resume(box: Box, what: str) -> Attack:
    """A checkpoint is well-formed and says strange things: the run ends with a plain reason, or goes on."""
    import torch

    from tuidl.train import checkpoint as store
    from tuidl.train.events import Checkpoint
    from tuidl.train.resume import Wishes
    from tuidl.train.session import Door, conduct

    paths = box.run()
    (sound,) = paths.checkpoints.glob("*.safetensors")
    saved = store.read(sound)
    spec: Any = saved.header["spec"]
    odd = box.random.choice(["x" * 70_000, -1, 2**70, [[]], None, {"a": {}}, True, ESCAPES, 1e300])
    tensors = saved.rest.tensors
    if what == "settings":
        spec = {**spec, **{group: {"kind": box.random.choice(CODE)} for group in CHOICES}, "task": "os:system"}
    elif what == "memory of the loop":
        values = saved.rest.values["loop"]
        values[box.random.choice(sorted(values))] = odd
    elif what == "weights":
        saved.weights.clear()
        saved.weights.update({name: torch.zeros(1) for name in ("__class__", "../x", "a" * 10_000)})
    elif what == "shapes":
        saved.weights.update({name: torch.zeros(3, 3, 3, dtype=torch.bool) for name in saved.weights})
    elif what == "random numbers":
        kind = box.random.choice([torch.uint8, torch.float64])
        tensors.update({name: torch.ones(7, dtype=kind) for name in tensors if "torch" in name})
    else:
        saved.rest.values.update({name: 2**63 for name, value in saved.rest.values.items() if isinstance(value, int)})
        tensors.update({name: torch.full_like(value, 2**62) for name, value in tensors.items() if not value.ndim})
    event = Checkpoint(99, saved.weights, saved.best_weights, saved.rest, {}, False)
    store.Checkpoints(paths.checkpoints).save(event, {"spec": spec})

    def attack() -> None:
        # a stranger can also make step 99 of 8; what counts is that it ends in a way that is told
        code = conduct(paths, lambda event, stored: None, Door(paths), Wishes(resume=True))
        hold(code in (0, 4), f"exit code {code}")

    return attack


# ---------------------------------------------------------------------- presets


@case("nested", "long dotted keys", "many tables", "digits", "escapes", "no text", "too large")
def preset(box: Box, what: str) -> Attack:
    """A preset that is hard to read: refused, within the time, in words that no terminal obeys."""
    deep, wide = box.random.choice([("[", "]"), ("{a=", "}")]), box.random.randrange(1000, 3500)
    spelled = "".join(f"\\u{ord(sign):04x}" for sign in ESCAPES)
    texts = {
        "nested": [f"a = {deep[0] * wide}1{deep[1] * wide}", "a=" + "[" * 16_000],
        "long dotted keys": ["a." * 32_000 + "a = 1", "a." * 8_000 + "a = 1", "[" + "b." * 8_000 + "b]\nx=1"],
        "many tables": ["".join(f"[[a{'.a' * (i % 40)}]]\n" for i in range(250)), "[[a]]\n" * 2500],
        "digits": [f"seed = {'9' * 10_000}", f"seed = 0x{'f' * 16_000}", "seed = 1e999999", "seed = 1979-05-27"],
        "escapes": [f'task = "{spelled}"', f"'{ESCAPES[:3]}' = 1", f'"{spelled}" = 1', 'a="\\ud800"'],
        "no text": ["\0" * 9000, "\ud800", "\ufeffseed=1", "=" * 9000, "\r" * 9000],
        "too large": ["#" * 70_000, "a=1\n" * 20_000],
    }[what]  # fmt: skip
    files = [box.file(f"{number}.toml", text) for number, text in enumerate(texts)]

    def attack() -> None:
        for file in files:
            with contextlib.suppress(TuidlError):
                load_preset(str(file))
                raise BrokenError(f"{what} made a run")
        load_preset(str(files[0]))

    return attack


@case("registries", "fields", "--set", "own folder", "fifo", "endless", "data path")
def preset_names(box: Box, what: str) -> Attack:
    """A preset names things that are no settings: code, attributes, other files."""
    from tuidl.spec.own import list_presets
    from tuidl.train.data.load import load

    if what in ("fifo", "endless"):
        box.plant(box.inside / "x.toml", what)
        return lambda: refused(load_preset, str(box.inside / "x.toml"))
    if what == "own folder":
        for name in ("../x", "os:system", "mnist-mlp", "-x", "x" * 200, "a..b"):
            box.file(f"own/{name.replace('/', chr(0x2215))}.toml", "task = 'os:system'")
        (box.inside / "own" / "dir.toml").mkdir()

        def listed() -> None:
            with mock.patch.dict(os.environ, TUIDL_PRESETS_DIR=str(box.inside / "own")):
                hold(not [item for item in list_presets() if item.own and item.spec], "a stranger's preset is sound")

        return listed
    if what == "data path":
        for kind in ("fifo", "endless", "socket", "directory"):
            box.plant(box.inside / kind, kind)
        names = [str(box.inside / kind) for kind in ("fifo", "endless", "socket", "directory", "absent")]
        specs = [build_spec({"task": "language", "data": {"name": "text", "path": name}, "model": {"kind": "gru"}})
                 for name in [*names, "a\0b", "~nobody-here/x", "/proc/self/mem"]]  # fmt: skip
        return lambda: [refused(load, spec.data, directory=None, device=None) for spec in specs]
    tables: list[dict[str, Any]] = [{"task": code} for code in CODE]
    if what == "registries":
        tables += [{group: {"kind": code}} for group in CHOICES for code in CODE]
    elif what == "fields":
        odd = {"model": ("activation", "init"), "data": ("name", "stand_in"), "__class__": ("x",)}
        tables += [{group: {key: code}} for group, keys in odd.items() for key in keys for code in CODE]
        tables += [{"device": code, "precision": code} for code in CODE]
    else:
        sets = [f"{key}={value}" for key in ("__class__", "optimizer.__init__", "a.b.c", "model.kind", "")
                for value in ("os:system", "[" * 900, "1\nb=2", "9" * 5000, "{a=" * 300)]  # fmt: skip
        return lambda: [refused(build_spec, {}, [text]) for text in sets]
    return lambda: [refused(build_spec, table) for table in tables]


# ---------------------------------------------------------------------- artifacts


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in chunks) + chunk(b"IEND", b"")


def _bomb(times: int) -> bytes:
    """Return a sound beginning of a zlib stream of `times` 16 MiB."""
    packer = zlib.compressobj()
    head = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)) * (times - 1)


@case("bomb in the pixels", "bomb in the text", "bomb of a size", "another format", "nested text")
def picture(box: Box, what: str) -> Attack:
    """An artifact that is not what its name says, or far more: refused before it fills the memory."""
    from tuidl.tui.panels.images import HistogramFile, ProbesFile, decode_png
    from tuidl.tui.panels.matrix import ConfusionFile
    from tuidl.tui.panels.samples import TextFile
    from tuidl.tui.panels.scrubber import parse_json

    bomb, pixels = _bomb(200), zlib.compress(bytes(72))
    if what == "nested text":
        junk = [b"[" * 1_000_000, b'{"labels":' * 100_000, b"9" * 100_000, b'{"labels":[1e999,"\\ud800"]}', b"\xff\0"]
        models = (ConfusionFile, ProbesFile, HistogramFile, TextFile)
        return lambda: [refused(parse_json, model, text) for model in models for text in junk]
    texts = ((b"zTXt", b"\0"), (b"iCCP", b"\0"), (b"iTXt", b"\1\0\0\0"))
    sizes = ((65_535, 65_535), (2**31 - 1, 1), (1, 2**31), (0, 9))
    files = {
        "bomb in the pixels": [_png(64, 64, (b"IDAT", bomb)), _png(2048, 2048, (b"IDAT", b"x"))],
        "bomb in the text": [_png(8, 8, (kind, b"k\0" + text + bomb), (b"IDAT", pixels)) for kind, text in texts],
        "bomb of a size": [_png(*size, (b"IDAT", bomb)) for size in sizes],
        "another format": [
            b"GIF89a" + bytes(64), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n",
            b"II*\0" + bytes(64), b"\x89PNG\r\n\x1a\n" + bytes(64), pickle.dumps(Payload(box)), b"", _png(8, 8),
        ],
    }[what]  # fmt: skip

    def attack() -> None:
        for data in files:
            with contextlib.suppress(TuidlError):
                hold(decode_png(data).size <= 64 * 64 * 3, "a bomb was unpacked")

    return attack


# ---------------------------------------------------------------------- data


def _pin(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _xz_bomb(times: int) -> bytes:
    """Return the beginning of an .xz file of `times` 16 MiB: each part of it starts afresh, so it can be repeated."""
    zeros, filters = bytes(1 << 24), [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    whole = lzma.compress(zeros, check=lzma.CHECK_NONE, filters=filters)
    head = whole[: 12 + 4 * (whole[12] + 1)]
    return head + lzma.compress(zeros, format=lzma.FORMAT_RAW, filters=filters)[:-1] * times


@case("members that lead out", "member beyond memory", "wrong sum", "gzip bomb", "xz bomb", "no files", "pickles")
def archive(box: Box, what: str) -> Attack:
    """Data files are unpacked in memory, no further than their pinned size, and believed by their sum alone."""
    from tuidl.train.data.decode import read_cifar_batch, read_idx
    from tuidl.train.data.files import read_dataset

    right, key, out = b"A" * 5000, "t/a", str(box.outside / "new")
    zeros = gzip.compress(bytes(1 << 24)) * 200
    packed = gzip.compress(right)
    if what == "members that lead out":
        kind = box.random.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
        members = [("../" * 9 + out, right), (out, right), (key, str(box.victim)), (f"{key}/x", right), ("t/b", out)]
        packed = _tar(*members, (key, right), kind=kind, mode="w:gz")
    elif what == "member beyond memory":
        info = tarfile.TarInfo(key)
        info.size = 2**60
        packed = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + right)
    if what == "pickles":
        evil = [pickle.dumps({"labels": Payload(box), "data": b"x" * 3072}, protocol=p) for p in range(6)]
        headers = [
            b"\0\0\x08\x04" + b"\xff" * 16,
            b"\0\0\x08\x01\x7f\xff\xff\xff",
            b"\0\0\x08\x03" + bytes(12) + b"x",
            b"",
        ]
        return lambda: [
            *(refused(read_cifar_batch, data) for data in [*evil, b"\x80\x02" + b"(" * 100_000, b"."]),
            *(refused(read_idx, data) for data in headers),
        ]  # fmt: skip
    in_tar = what.startswith("member")
    download = Download("t/a.tar.gz" if in_tar else "t/a.gz", _pin(packed), len(packed), ())
    dataset = DataSet(
        "evil", "", "", "", "text", "text", files=(DataFile(key, _pin(right), len(right), "all", download),)
    )
    place = box.inside / "t"
    place.mkdir()
    if what == "no files":
        for name in ("a", "a.gz", "a.xz", "a.tar.gz"):
            box.plant(place / name, box.random.choice(["fifo", "endless", "directory", "socket", "link"]))
    elif what == "wrong sum":
        at = box.random.randrange(len(right))
        box.file("t/a", right[:at] + b"B" + right[at + 1 :])
        box.file("t/a.gz", packed[:-9] + b"B" + packed[-8:])
    elif what == "xz bomb":
        box.file("t/a.xz", _xz_bomb(200))
    else:
        box.file(download.path, zeros if what == "gzip bomb" else packed)

    def attack() -> None:
        found = read_dataset(dataset, [box.inside])
        hold(found == {key: right} and what == "members that lead out", "wrong data was believed")

    return attack
