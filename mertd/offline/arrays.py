"""An npz file, written piece by piece: the same inputs give the same bytes, and no array is in memory as a whole."""

from __future__ import annotations

import os
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mertd.capture.source import EndReport
from mertd.defaults import SAMPLE_RATE
from mertd.offline.stored_batch import Outcome
from mertd.wire import Embedding

Results = Callable[[], Iterator[tuple[bytes, Outcome, Iterator[Embedding]]]]
"""Yields label, outcome and windows of every input, again each time it is called."""

ROWS = 256
"""Rows that are written at a time."""


def write_npz(file: BinaryIO, results: Results, model: Mapping[str, Any]) -> None:
    """Write arrays with one row a window: vector (layers, hidden), source, start and end in samples, rms_dbfs.

    `missing_source` and `missing_s` have one row for each input of which something is missing. `model`: its layers, hidden
    size, space, and whether it is trained.
    """
    start = array("q")
    end = array("q")
    rms_dbfs = array("d")
    sources: list[tuple[str, int]] = []  # name, and number of its windows
    missing: list[tuple[str, EndReport]] = []
    for label, outcome, windows in results():
        name = os.fsdecode(label)
        for message in windows:
            start.append(message.window.start)
            end.append(message.window.end)
            rms_dbfs.append(message.audio.rms_dbfs)
        sources.append((name, outcome.embedded))
        if outcome.report.reason:
            missing.append((name, outcome.report))
    longest = max((len(name) for name, count in sources if count), default=1)
    names = np.dtype(f"<U{max(1, longest)}")
    shape = (len(start), len(model["layers"]), int(model["hidden"]))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _write(archive, "vector", np.dtype("<f4"), shape, _vectors(results))
        _write(archive, "source", names, (len(start),), (np.full(n, name, names) for name, n in sources))
        for name, values in (("start", start), ("end", end), ("rms_dbfs", rms_dbfs)):
            column = np.frombuffer(values, values.typecode) if len(values) else np.zeros(0, values.typecode)
            _write(archive, name, column.dtype, column.shape, [column])
        whole = {
            "missing_source": np.array([name for name, _ in missing], str),
            "missing_s": np.array([report.missing_s for _, report in missing], np.float64),
            "rate": np.array(SAMPLE_RATE),
            "layers": np.array(model["layers"]),
            "space": np.array(model["space"]),
            "trained": np.array(model["trained"]),
        }
        for name, value in whole.items():
            _write(archive, name, value.dtype, value.shape, [value])


def _vectors(results: Results) -> Iterator[NDArray[np.float32]]:
    rows: list[NDArray[np.float32]] = []
    for _, _, windows in results():
        for message in windows:
            rows.append(message.vector)
            if len(rows) == ROWS:
                yield np.stack(rows)
                rows = []
    if rows:
        yield np.stack(rows)


def _write(
    archive: zipfile.ZipFile, name: str, kind: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[NDArray[Any]]
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        _write_header(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, kind).tobytes())


def _write_header(stream: IO[bytes], header: dict[str, Any]) -> None:
    np.lib.format.write_array_header_1_0(stream, header)
