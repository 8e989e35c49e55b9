"""Weights as people have them: imported whatever their form, or named for what they are, in one line that says what to do."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from embed.weights.torch_file import (
    NEW_NAMES,
    OLD_NAMES,
    as_checkpoint,
    global_of,
    state_dict,
    text,
    write_archive,
    write_state_dict,
)
from mertd.bench.pytorch import configuration
from mertd.embed.architecture import POSITIONAL, TINY, Architecture
from mertd.embed.weights.checkpoint import import_checkpoint
from mertd.embed.weights.folder import locate
from mertd.embed.weights.foreign import describe
from mertd.embed.weights.loading import from_file, load, save
from mertd.embed.weights.tensors import Weights
from mertd.errors import WeightsError

Array = NDArray[Any]
Make = Callable[[Path], object]
BIAS = "encoder.layer_norm.bias"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a2" * 32 + b"\nsize 377552987\n"
READERS = {"import": import_checkpoint, "load": from_file}


@pytest.fixture(scope="module")
def tiny() -> Weights:
    return load("random:0?size=tiny")


@pytest.fixture
def state(tiny: Weights) -> dict[str, Array]:
    return as_checkpoint(tiny.tensors)


def bfloat16(values: Array) -> NDArray[np.uint16]:
    """The upper halves of float32 numbers: what `Tensor.to(torch.bfloat16)` gives for values that need no rounding."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path: Path, state: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> Path:
    """As the format says; uint16 arrays stand for bfloat16, which numpy does not have."""
    codes = {"u2": "BF16", "f2": "F16", "f4": "F32", "f8": "F64", "i8": "I64", "i1": "I8"}
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, values in state.items():
        entries[name] = {
            "dtype": codes[values.dtype.str[1:]],
            "shape": values.shape,
            "data_offsets": (len(data), len(data) + values.nbytes),
        }
        data += values.tobytes()
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """The error of `read`: one line, not long, that names the file and says what to do."""
    with pytest.raises(WeightsError) as caught:
        read(path)
    says = str(caught.value)
    assert str(path) in says
    assert "\n" not in says
    assert len(says) < 500 + len(str(path))
    return says


# Imported


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_bfloat16_is_converted_bit_by_bit(tmp_path: Path, state: dict[str, Array], suffix: str) -> None:
    """Every bit pattern of bfloat16 that float16 can hold, against numpy's reading of the same pattern as float32."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    exact = (patterns.astype(np.uint32) << 16).view(np.float32)
    fit = patterns[np.isfinite(exact) & (np.abs(exact) < 65520)]
    name, shape = "feature_projection.projection.weight", TINY.tensors["feature_projection.projection.weight"]
    write = write_state_dict if suffix == "bin" else write_safetensors
    seen: list[int] = []
    for start in range(0, len(fit), int(np.prod(shape))):
        bits = np.resize(fit[start : start + int(np.prod(shape))], shape)
        got = import_checkpoint(write(tmp_path / f"x.{suffix}", {**state, name: bits})).tensors[name]
        expected = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
        np.testing.assert_array_equal(got.view(np.uint16), expected.view(np.uint16), strict=True)
        seen += bits.reshape(-1).tolist()
    assert set(seen) == set(fit.tolist())


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x4780], ids=["inf", "-inf", "nan", "65536"])
def test_bfloat16_beyond_float16_is_refused(tmp_path: Path, state: dict[str, Array], bits: int) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {**state, BIAS: np.full(64, bits, np.uint16)})
    assert re.search("not finite|too large for float16", refusal(import_checkpoint, path))


def test_a_whole_checkpoint_in_bfloat16_is_imported_and_noted(tmp_path: Path, tiny: Weights, state: dict[str, Array]) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {name: bfloat16(values) for name, values in state.items()})
    notes: list[str] = []
    got = import_checkpoint(path, notes.append)
    widened = {name: (bfloat16(values).astype(np.uint32) << 16).view(np.float32) for name, values in state.items()}
    assert got.digest == import_checkpoint(write_safetensors(tmp_path / "y.safetensors", widened)).digest
    assert re.search(r"\d+ tensors are bfloat16, which keeps 8 bits", notes[0])
    halves = {name: bfloat16(values) for name, values in tiny.tensors.items()}
    path = write_safetensors(tmp_path / "z.safetensors", halves)
    assert f"holds bfloat16, not float16; `mertd model import {path}` converts it" in refusal(from_file, path)


HEADS = {
    "lm_head.weight": np.ones((5, 64), np.float32),
    "lm_head.bias": np.ones(5, np.float32),
    "final_proj.weight": np.ones((8, 64), np.float32),
    "final_proj.0.bias": np.ones(8, np.float32),
    "label_embs_concat": np.ones((50, 8), np.float32),
    "quantizer.vars": np.ones((1, 4, 8), np.float32),
    "quantizer.codevectors": np.ones((1, 4, 8), np.float16),
    "quantizer.weight_proj.weight": np.ones((4, 32), np.float32),
    "project_q.weight": np.ones((8, 8), np.float32),
    "project_hid.bias": np.ones(8, np.float32),
    "projector.weight": np.ones((8, 64), np.float32),
    "classifier.bias": np.ones(8, np.float32),
    "layer_weights": np.ones(3, np.float32),
}
"""What training puts on top of the encoder."""


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("names", [OLD_NAMES, NEW_NAMES], ids=["weight_g", "parametrizations"])
@pytest.mark.parametrize(("prefix", "before_heads"), [("", ""), ("hubert.", ""), ("model.", ""), ("model.hubert.", "model.")])
def test_heads_are_left_out_and_named(
    tmp_path: Path, tiny: Weights, suffix: str, names: tuple[str, str], prefix: str, before_heads: str
) -> None:
    heads = {before_heads + name: values for name, values in HEADS.items()}
    whole = {**as_checkpoint(tiny.tensors, names, prefix), **heads}
    write = write_state_dict if suffix == "bin" else write_safetensors
    notes: list[str] = []
    got = import_checkpoint(write(tmp_path / f"x.{suffix}", whole), notes.append)
    assert got.digest == tiny.digest
    assert f"left out {len(HEADS)} tensors that are not part of the encoder: " in notes[0]
    assert min(heads) in notes[0]


def test_heads_of_a_file_that_runs_as_it_is(tmp_path: Path, tiny: Weights) -> None:
    halves = {name: values.astype(np.float16) for name, values in HEADS.items()}
    prefixed = {f"hubert.{name}": np.ascontiguousarray(values) for name, values in tiny.tensors.items()}
    save_file({**prefixed, **halves}, tmp_path / "x.safetensors")
    assert load(str(tmp_path / "x.safetensors")).digest == tiny.digest


def sharded(folder: Path, state: Mapping[str, Array], suffix: str, count: int = 3) -> Path:
    """`state` in shards, with their index, as `save_pretrained` writes them. Returns the path of the index."""
    stem = "pytorch_model" if suffix == "bin" else "model"
    names = [f"{stem}-{number:05}-of-{count:05}.{suffix}" for number in range(1, count + 1)]
    places = {name: names[at % count] for at, name in enumerate(state)}
    folder.mkdir(parents=True, exist_ok=True)
    for shard in names:
        part = {name: values for name, values in state.items() if places[name] == shard}
        (write_state_dict if suffix == "bin" else write_safetensors)(folder / shard, part)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("by_folder", [False, True])
def test_shards_are_put_together(tmp_path: Path, tiny: Weights, state: dict[str, Array], suffix: str, by_folder: bool) -> None:
    index = sharded(tmp_path / "model", state, suffix)
    assert import_checkpoint(index.parent if by_folder else index).digest == tiny.digest


def test_shards_of_untrained_weights_are_untrained(tmp_path: Path, tiny: Weights) -> None:
    parts = list(tiny.tensors.items())
    for name, part, trained in (("a.safetensors", parts[:9], "true"), ("b.safetensors", parts[9:], "false")):
        save_file({n: np.ascontiguousarray(v) for n, v in part}, tmp_path / name, {"trained": trained})
    places = {name: "a.safetensors" if at < 9 else "b.safetensors" for at, (name, _) in enumerate(parts)}
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": places}))
    assert not import_checkpoint(tmp_path / "x.index.json").trained


def test_metadata_of_null_is_none(tmp_path: Path, tiny: Weights, state: dict[str, Array]) -> None:
    """fastsafetensors #96: published files have it, and the format's own library reads them."""
    content = write_safetensors(tmp_path / "x.safetensors", state).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.dumps({"__metadata__": None, **json.loads(content[8 : 8 + length])}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    assert import_checkpoint(tmp_path / "x.safetensors").digest == tiny.digest


def test_a_hub_cache_of_links_is_followed(tmp_path: Path, tiny: Weights, state: dict[str, Array]) -> None:
    cache = tmp_path / "models--m-a-p--MERT-v1-95M"
    snapshot = cache / "snapshots" / ("b" * 40)
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("b" * 40)
    (cache / "snapshots" / ("a" * 40)).mkdir()  # an older one
    write_state_dict(cache / "blobs" / "a2b8", state)
    (snapshot / "pytorch_model.bin").symlink_to("../../blobs/a2b8")
    (snapshot / "config.json").write_text('{"model_type": "mert_model"}')
    for place in (cache, snapshot, snapshot / "pytorch_model.bin"):
        assert import_checkpoint(place).digest == tiny.digest
    (cache / "blobs" / "a2b8").unlink()
    assert "is a link to ../../blobs/a2b8, which does not exist" in refusal(import_checkpoint, snapshot / "pytorch_model.bin")


@pytest.mark.parametrize(
    "beside",
    [
        ["config.json", "preprocessor_config.json", "MERT-v1-95M_fairseq.pt", "README.md"],
        ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"],
        [".gitattributes", "flax_model.msgpack", "tf_model.h5"],
    ],
)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "mine.safetensors", "checkpoint.pt"])
def test_a_folder_of_one_model(tmp_path: Path, tiny: Weights, state: dict[str, Array], name: str, beside: list[str]) -> None:
    for other in beside:
        (tmp_path / other).write_text("{}")
    (write_safetensors if name.endswith("safetensors") else write_state_dict)(tmp_path / name, state)
    assert import_checkpoint(tmp_path).digest == tiny.digest


def test_a_folder_with_the_model_in_a_folder(tmp_path: Path, tiny: Weights) -> None:
    """The layout of the converted weights on the hub."""
    (tmp_path / "mlx").mkdir()
    (tmp_path / "coreml" / "MERT-v1-95M.mlpackage").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.safetensors").write_bytes(b"")
    save(tiny, tmp_path / "mlx" / "MERT-v1-95M.safetensors")
    assert import_checkpoint(tmp_path).digest == tiny.digest


def test_what_was_pulled_is_taken_before_a_pointer(tmp_path: Path, tiny: Weights, state: dict[str, Array]) -> None:
    (tmp_path / "model.safetensors").write_bytes(POINTER)
    write_state_dict(tmp_path / "pytorch_model.bin", state)
    assert import_checkpoint(tmp_path).digest == tiny.digest


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_state_dict_among_the_records_of_a_training(tmp_path: Path, tiny: Weights, state: dict[str, Array], key: str) -> None:
    inner = write_state_dict(tmp_path / "inner.bin", state)
    with zipfile.ZipFile(inner) as archive:
        program = archive.read("archive/data.pkl")
        storages = {n.rpartition("/")[2]: archive.read(n) for n in archive.namelist() if "/data/" in n}
    outer = b"\x80\x02}(" + text("epoch") + b"K\x07" + text(key) + program[2:-1] + b"u."
    assert import_checkpoint(write_archive(tmp_path / "last.ckpt", outer, storages)).digest == tiny.digest


@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_transformers_saves(tmp_path: Path, dtype: str) -> None:
    """A model with a head, whole and in shards, in both formats: always torch's own values, rounded to float16 once."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(1)
    model = transformers.HubertForCTC(configuration(TINY, vocab_size=11)).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.save({"epoch": 3, "model": model.state_dict()}, tmp_path / "last.ckpt")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    notes: list[str] = []
    places = ("whole", "shards", "pytorch_model.bin", "last.ckpt")
    got = [import_checkpoint(tmp_path / place, notes.append) for place in places]
    assert len({one.digest for one in got}) == 1
    assert sum("left out 2 tensors that are not part of the encoder: lm_head.bias, lm_head.weight" in n for n in notes) == 4
    assert sum("bfloat16" in note for note in notes) == (4 if dtype == "bfloat16" else 0)
    for name, tensor in model.hubert.state_dict().items():
        if name in got[0].tensors:
            values = tensor.to(torch.float32).numpy().astype(np.float16)
            half = got[0].tensors[name]
            np.testing.assert_array_equal(half.swapaxes(1, 2) if half.ndim == 3 else half, values, strict=True)
    whole_training = {"model": model.state_dict(), "optimizer": torch.optim.AdamW(model.parameters()).state_dict()}
    torch.save(whole_training, tmp_path / "training.pt")
    assert "it is the record of a training" in refusal(import_checkpoint, tmp_path / "training.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, whose files people still have
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    assert "a program of TorchScript" in refusal(import_checkpoint, tmp_path / "script.pt")


# Named for what they are


def archive_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarball() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pytorch_model.bin"))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


HTML = b"<!DOCTYPE html>\n<html class=''><head>\n<title>Log in - \nHugging Face</title></head><body>" + b"x" * 9000
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0\x3a\x80\x01\x0a\x02"
MLMODEL = b"\x08\x07\x12\xfc\x01\x0a\x16\x0a\x0cinput_values\x1a\x06\x2a\x04"
FLAX = b"\x83\xa7encoder\x81\xa6layers\x80\xb1feature_extractor\x80\xaafeature_pr\x80"
FOREIGN: dict[str, tuple[bytes, str]] = {
    "LFS": (POINTER, r"pointer of Git LFS in place of 377,552,987 bytes of weights; run `git lfs pull`.*`mertd model pull`"),
    "LFS, CRLF": (POINTER.replace(b"\n", b"\r\n"), "pointer of Git LFS.*git lfs pull"),
    "Xet": (b"# xet version 0\nfilesize = 1\nhash = 'x'\n", "pointer of Git Xet.*`git lfs pull`"),
    "git-annex": (b"/annex/objects/SHA256E-s377552987--a2b8.bin\n", "pointer of git-annex.*git annex get"),
    "a login page": (HTML, r"a web page \('Log in -.*'\), not the file behind it; download it again"),
    "a page with a BOM": (b"\xef\xbb\xbf\r\n  <HTML><body>no</body>", "a web page, not the file"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', r"in XML \('AccessDenied'\); download it again"),
    "JSON error": (b'{"error":"Repository not found"}', "server's error message, .*Repository not found.*; download it again"),
    "a list": (b"[1, 2, 3]", "JSON, not weights"),
    "config.json": (b'{\n  "architectures": ["MERTModel"], "hidden_size": 768}', "configuration of a model, not its weights"),
    "text of the hub": (b"Entry not found", "a text of 15 bytes that begins 'Entry not found'"),
    "UTF-16 text": ("Zugriff verweigert".encode("utf-16"), "a text of 38 bytes that begins 'Zugriff verweigert'"),
    "gzip": (gzip.compress(b"PK\x03\x04" + bytes(999)), "compressed with gzip; unpack it first"),
    "bzip2": (b"BZh91AY&SY" + bytes(99), "compressed with bzip2; unpack"),
    "xz": (b"\xfd7zXZ\x00" + bytes(99), "compressed with xz; unpack"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed with Zstandard; unpack"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "7-Zip archive; unpack"),
    "tar": (tarball(), "tar archive; unpack it first"),
    "GGUF": (b"GGUF\x03\0\0\0\x7b\0\0\0" + bytes(99), "GGUF file.*mertd imports .safetensors and PyTorch's .bin"),
    "GGML": (b"tjgg\x03\0\0\0", "GGML file, .*mertd imports"),
    "ONNX": (ONNX, "it is an ONNX model; mertd imports"),
    "ONNX, graph first": (b"\x08\x04\x3a\x80\x01\x0a\x02", "it is an ONNX model; mertd imports"),
    "Core ML": (MLMODEL, "a Core ML model; mertd imports"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite model; mertd imports"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 file, as Keras.*; mertd imports"),
    "Flax": (FLAX, "MessagePack map, as Flax writes it; mertd imports"),
    "npy": (b"\x93NUMPY\x01\0v\0{'descr'", "a numpy array; mertd imports"),
    "a bare pickle": (b"\x80\x04\x95\x0f\0\0\0\0\0\0\0}\x94.", "a Python pickle, not a checkpoint"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt ", "a sound file; `mertd model pull`"),
    "nothing": (b"", "it is empty; download it again"),
    "zeros": (bytes(9000), "zeros at its beginning.*not finished; download it again"),
    "a README": (b"---\nlicense: cc-by-nc-4.0\n---\n# MERT", "a text of 36 bytes that begins '---'"),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, kind: str, reader: str) -> None:
    content, says = FOREIGN[kind]
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    assert re.search(says, refusal(READERS[reader], path))


ZIPS: dict[str, tuple[bytes, str]] = {
    "a zip of weights": (archive_of(**{"MERT/pytorch_model.bin": b"x"}), "'MERT/pytorch_model.bin': unpack it first"),
    "npz": (npz(), "an archive of numpy arrays"),
    "a packed .mlpackage": (archive_of(**{"x.mlpackage/Manifest.json": b"{}"}), "packed Core ML package"),
    "TorchScript": (archive_of(**{"m/data.pkl": b"\x80\x02.", "m/constants.pkl": b"", "m/code/a.py": b""}), "TorchScript"),
    "an empty zip": (archive_of(), "an empty zip archive"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ZIPS)
def test_what_an_archive_holds_is_named(tmp_path: Path, kind: str) -> None:
    content, says = ZIPS[kind]
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    assert re.search(says, refusal(import_checkpoint, path))
    assert re.search("`mertd model import` converts|an empty zip", refusal(from_file, path))


FAIRSEQ = {
    "post_extract_proj.weight": np.ones((64, 32), np.float32),
    "encoder.pos_conv.0.weight_g": np.ones((1, 1, 32), np.float32),
    "encoder.layers.0.self_attn.k_proj.weight": np.ones((64, 64), np.float32),
}


def test_fairseq_is_named(tmp_path: Path) -> None:
    """Its state dict, in either format; and its own checkpoint, whose settings are objects that are never made."""
    says = "is a checkpoint of fairseq, whose names differ; import pytorch_model.bin of the same model"
    assert says in refusal(import_checkpoint, write_state_dict(tmp_path / "a.pt", FAIRSEQ))
    prefixed = {f"model.{name}": values for name, values in FAIRSEQ.items()}
    assert says in refusal(import_checkpoint, write_safetensors(tmp_path / "a.safetensors", prefixed))
    settings = global_of("omegaconf.dictconfig", "DictConfig") + b")R"
    program = b"\x80\x02}(" + text("cfg") + settings + text("post_extract_proj.weight") + b"Nu."
    assert says in refusal(import_checkpoint, write_archive(tmp_path / "b.pt", program, {}))
    assert "'torch.nn.Module'" in refusal(
        import_checkpoint, write_archive(tmp_path / "c.pt", state_dict({"x": global_of("torch.nn", "Module")}), {})
    )


def test_a_training_record_that_is_more_than_weights_is_named(tmp_path: Path) -> None:
    program = b"\x80\x02}(" + text("optimizer_states") + b"]" + text("state_dict") + b"}u."
    says = refusal(import_checkpoint, write_archive(tmp_path / "last.ckpt", program, {}))
    assert "EMPTY_LIST; refused; it is the record of a training: in PyTorch, torch.save its state dict alone" in says


def test_the_330m_variant_is_named(tmp_path: Path) -> None:
    """By its shapes alone: the file has no values on the disk."""
    large = Architecture(hidden=1024, heads=16, layers=24, feed_forward=4096)
    entries, at = {}, 0
    for name, shape in large.tensors.items():
        size = 2 * int(np.prod(shape))
        entries[f"hubert.{name}"] = {"dtype": "BF16", "shape": shape, "data_offsets": (at, at + size)}
        at += size
    header = json.dumps(entries).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, path.stat().st_size + at)
    for read in READERS.values():
        says = refusal(read, path)
        assert "holds a network of 24 layers of 1024, the size of MERT-v1-330M; mertd runs only MERT-v1-95M" in says
        assert "`mertd model pull` fetches it" in says


def test_another_size_and_another_family_are_named(tmp_path: Path, tiny: Weights) -> None:
    narrow = {"feature_projection.projection.weight": np.ones((384, 512), np.float32), "encoder.layers.0.x": np.ones(1)}
    assert "a network of 1 layers of 384" in refusal(import_checkpoint, write_safetensors(tmp_path / "a", narrow))
    relative = as_checkpoint(tiny.tensors, prefix="wav2vec2.")
    assert "holds wav2vec 2.0, not MERT" in refusal(import_checkpoint, write_safetensors(tmp_path / "b", relative))


def test_an_adapter_and_another_network_are_named(tmp_path: Path) -> None:
    adapter = {"base_model.model.encoder.layers.0.attention.q_proj.lora_A.weight": np.ones((4, 64), np.float32)}
    assert "is a LoRA adapter" in refusal(import_checkpoint, write_safetensors(tmp_path / "a.safetensors", adapter))
    other = {"bert.embeddings.word_embeddings.weight": np.ones((9, 4), np.float16)}
    for read in READERS.values():
        says = refusal(read, write_safetensors(tmp_path / "b.safetensors", other))
        assert "1 unexpected (bert.embeddings.word_embeddings.weight" in says
        assert says.endswith("; it is another network: `mertd model pull` fetches the weights")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m-a-p/MERT-v1-95M", "the name of a repository on the Hugging Face hub: `mertd model pull` fetches"),
        ("https:/huggingface.co/m-a-p/MERT-v1-95M/blob/main/pytorch_model.bin", "it is an address: download the file first"),
        ("hf:/m-a-p/MERT-v1-95M", "it is an address"),
    ],
)
def test_a_name_of_something_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refusal(READERS[reader], Path(name))


def test_quantised_weights_are_named(tmp_path: Path, state: dict[str, Array]) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {**state, BIAS: np.zeros(64, np.int8)})
    assert f"cannot read {BIAS}: int8 is not float16, float32 or float64, nor bfloat16" in refusal(import_checkpoint, path)


@pytest.mark.parametrize("kept", [5, 9, 300, 60_000])
@pytest.mark.parametrize("reader", READERS)
def test_half_a_download_is_named(tmp_path: Path, tiny: Weights, reader: str, kept: int) -> None:
    whole = tmp_path / "whole"
    save(tiny, whole)
    path = tmp_path / "model.safetensors.incomplete"
    path.write_bytes(whole.read_bytes()[:kept])
    assert re.search("cut short, download it again" if kept > 8 else "its header would take", refusal(READERS[reader], path))


@pytest.mark.parametrize("kept", [30, 4_000, -30, -70_000])
def test_half_a_download_of_a_checkpoint_is_named(tmp_path: Path, state: dict[str, Array], kept: int) -> None:
    whole = write_state_dict(tmp_path / "whole", state).read_bytes()
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(whole[:kept])
    assert "its end is missing: the file is cut short, download it again" in refusal(import_checkpoint, path)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_missing_shards_are_named(tmp_path: Path, state: dict[str, Array], suffix: str) -> None:
    index = sharded(tmp_path, state, suffix)
    lost = sorted(tmp_path.glob(f"*-00002-of-00003.{suffix}"))[0]
    lost.unlink()
    assert f"1 of 3 shards missing beside it ({lost.name}); download them too" in refusal(import_checkpoint, index)
    lost.write_bytes(POINTER)
    with pytest.raises(WeightsError, match=rf"{re.escape(lost.name)}.* pointer of Git LFS"):
        import_checkpoint(index)
    write_state_dict(lost, {"x": np.ones(1, np.float32)})
    with pytest.raises(WeightsError, match=rf"{re.escape(lost.name)}: '.*' is not in this shard, but the index says so"):
        import_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_one_shard_says_that_it_is_one(tmp_path: Path, state: dict[str, Array], suffix: str) -> None:
    index = sharded(tmp_path, state, suffix)
    shard = sorted(index.parent.glob("*-00001-of-00003.*"))[0]
    assert "this is shard 1 of 3: import the directory" in refusal(import_checkpoint, shard)
    if suffix == "safetensors":
        with pytest.raises(WeightsError, match="this is shard 1 of 3: import the directory"):
            from_file(shard)
    assert "it is an index of shards; `mertd model import` puts them together" in refusal(from_file, index)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"weight_map": {}}, "not a map from tensors to files"),
        ({"weight_map": {"a": 1}}, "not a map from tensors to files"),
        ({"weight_map": [1]}, "not a map from tensors to files"),
        ({"weight_map": {"a": "../../etc/passwd"}}, "'../../etc/passwd' is not the name of a file beside"),
        ({"weight_map": {"a": "/etc/passwd"}}, "'/etc/passwd' is not the name"),
        ({"weight_map": {"a": ".."}}, r"'\.\.' is not the name"),
        ({"weight_map": {"a": "x\0y"}}, "is not the name"),
        ({"weight_map": {"a": "x.index.json"}}, "is not the name"),
        ({"weight_map": {"a": ""}}, "'' is not the name"),
        ({"weight_map": {"a": "\ud800"}}, "missing"),
        ({"weight_map": {str(n): f"{n}.bin" for n in range(999)}}, "999 shards; a checkpoint of this model needs no more"),
        ({"weight_map": {"a": "x" * 5_000}}, "File name too long|missing|not the name"),
    ],
)
def test_an_index_that_leads_astray_is_refused(tmp_path: Path, content: object, says: str) -> None:
    (tmp_path / "x.index.json").write_text(json.dumps(content))
    assert re.search(says, refusal(import_checkpoint, tmp_path / "x.index.json"))


FOLDERS: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "there is no file of weights in it; name the file"),
    "a clone without weights": (["config.json", "README.md"], "only its configuration"),
    "a download under way": (["config.json", "model.safetensors.incomplete"], "a download that has not ended"),
    "fairseq alone": (["MERT-v1-95M_fairseq.pt"], "only a checkpoint of fairseq"),
    "a Core ML package": (["Manifest.json"], "Core ML package"),
    "several": (["a.safetensors", "b.safetensors"], "2 files of weights; name one of them: a.safetensors, b.safetensors"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_without_weights_says_what_it_has(tmp_path: Path, kind: str) -> None:
    names, says = FOLDERS[kind]
    for name in names:
        (tmp_path / name).write_text("{}")
    assert re.search(says, refusal(import_checkpoint, tmp_path))
    assert f"it is a directory; `mertd model import {tmp_path}` converts what is in it" in refusal(from_file, tmp_path)


def test_a_clone_without_its_large_files(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(POINTER)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin .*a pointer of Git LFS in place of 377,552,987 bytes"):
        import_checkpoint(tmp_path)


def test_a_cache_whose_download_has_not_ended(tmp_path: Path) -> None:
    cache = tmp_path / "models--m-a-p--MERT-v1-95M"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "a2b8.0f.incomplete").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"a download that has not ended \(a2b8\.0f\.incomplete\)"):
        import_checkpoint(cache)
    (cache / "snapshots" / "def").mkdir()
    assert "has 2 snapshots" in refusal(import_checkpoint, cache)


def test_weights_for_another_rate_are_named(tmp_path: Path, state: dict[str, Array]) -> None:
    """HuBERT has the same names and shapes, and hears 16 kHz: only its configuration tells."""
    write_state_dict(tmp_path / "pytorch_model.bin", state)
    config = tmp_path / "preprocessor_config.json"
    config.write_text('{"sampling_rate": 16000}')
    assert "holds a network for audio of 16,000 Hz; MERT-v1-95M hears 24,000 Hz" in refusal(import_checkpoint, tmp_path)
    for harmless in ('{"sampling_rate": 24000}', "{}", "[]", "no JSON", '{"sampling_rate": "x"}'):
        config.write_text(harmless)
        assert locate(tmp_path) == tmp_path / "pytorch_model.bin"


def test_the_judge_is_bounded_and_never_raises() -> None:
    """Random beginnings, and every one above cut anywhere: a name or None, never an exception, never long."""
    random = np.random.default_rng(0)
    beginnings = [random.bytes(int(random.integers(1, 300))) for _ in range(2_000)]
    beginnings += [content[:cut] for content, _ in FOREIGN.values() for cut in range(1, min(len(content), 120))]
    for beginning in beginnings:
        named = describe(beginning, len(beginning) + 1)
        assert named is None or (len(named) < 400 and "\n" not in named)


def test_a_folder_of_very_many_files_is_not_searched_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mertd.embed.weights.folder.MAX_ENTRIES", 3)
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("")
    assert "no file of weights" in refusal(import_checkpoint, tmp_path)
    shutil.rmtree(tmp_path)


def test_the_positional_convolution_is_folded_once(tmp_path: Path, tiny: Weights, state: dict[str, Array]) -> None:
    """A float16 file that still has the weight norm needs the import, and says so."""
    halves = {name: values.astype(np.float16) for name, values in state.items()}
    path = write_safetensors(tmp_path / "x.safetensors", halves)
    assert f"{POSITIONAL}.weight is float32, not float16 (mertd model import converts" in refusal(from_file, path)
    assert import_checkpoint(path).architecture is tiny.architecture
