"""examples/mertd.d.ts: written from the page of the protocol, and true of what the wire's own code produces."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docs.pages import ROOT, read
from mertd.cli.message_printer import with_text_times
from mertd.wire import as_json
from messages import embedding, event, status

TYPESCRIPT = "typescript@5.9.3"
STRICT = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"]

STREAM = dict.fromkeys(
    ("restarts", "epoch", "samples", "missing", "due", "embedded", "events", "silent", "skipped", "waiting"), 1
)
STREAM |= {"state": "listening", "source": "synth:chords", "description": "chords", "problem": "", "skips": {"late": 1}}
MODEL = dict.fromkeys(("name", "weights", "space", "backend", "device", "precision"), "x")
MODEL |= {"trained": True, "agreement": 0.5, "rejected": {"mlx": "no GPU"}}
STATUS = status(
    model=MODEL,
    streams={"room": STREAM},
    processes={"embed": {"pid": 1, "state": "healthy", "restarts": 0, "last_error": "", "last_error_ns": 0}},
)

USE = """
declare const decoded: Message;
if (decoded.kind === "embedding") {
  const bytes: Uint8Array = decoded.vector.data;
  const start: number | bigint = decoded.time.start_ns;
  const seq = Number(decoded.seq);
  console.log(bytes.length, start, seq);
} else if (decoded.kind === "event") {
  const word: string = decoded.event;
  if (decoded.event === "device_lost") console.log(word, decoded.index);
} else {
  for (const [name, stream] of Object.entries(decoded.streams)) console.log(name, stream.state, stream.waiting);
}
// @ts-expect-error: a text is no time
const wrong: Embedding["time"]["start_ns"] = "1";
declare const console: { log(...things: unknown[]): void };
"""


def typescript() -> ModuleType:
    spec = importlib.util.spec_from_file_location("typescript", ROOT / "docs" / "typescript.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_types_are_those_of_the_page() -> None:
    assert typescript().types() == read("examples/mertd.d.ts"), "run `python docs/typescript.py`"


@pytest.mark.parametrize("message", [embedding(), event(), STATUS], ids=lambda message: message.kind)
def test_every_field_has_a_type(message: Any) -> None:
    text = read("examples/mertd.d.ts")
    declared = re.search(rf"export interface {message.kind.capitalize()}<.*?^}}", text, re.MULTILINE | re.DOTALL)
    assert declared
    body = as_json(message)
    outer = re.findall(r"^  (\w+)\??:", declared[0], re.MULTILINE)
    assert outer == [*body]
    inner = (
        {name for value in body.values() if isinstance(value, dict) for name in value} if message.kind == "embedding" else set()
    )
    assert set(re.findall(r"^    (\w+)\??:", declared[0], re.MULTILINE)) == inner


def test_a_status_of_the_test_has_all_keys_of_the_page() -> None:
    text = read("examples/mertd.d.ts")
    for name, known in (("StreamStatus", STREAM), ("ModelStatus", MODEL)):
        declared = re.search(rf"export interface {name}<.*?^}}", text, re.MULTILINE | re.DOTALL)
        assert declared
        assert set(re.findall(r"^  (\w+):", declared[0], re.MULTILINE)) == {*known}


@pytest.mark.slow
def test_the_compiler_accepts_what_the_wire_produces(tmp_path: Path) -> None:
    """Literals of messages: the compiler refuses keys that are missing, unknown or of another type."""
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed") if os.environ.get("CI") else pytest.skip("npm is not installed")
    shutil.copy(ROOT / "examples" / "mertd.d.ts", tmp_path)
    lines = ['import type { Embedding, Event, Message, Printed, PrintedExactly, Status } from "./mertd.js";', USE]
    for number, message in enumerate((embedding(), event(), STATUS)):
        body, kind = as_json(message), message.kind.capitalize()
        less = {name: value for name, value in body.items() if name != "boot"}
        for name, form, value, mistake in (
            ("printed", "Printed", body, ""),
            ("exactly", "PrintedExactly", with_text_times(body), ""),
            ("mixed", "PrintedExactly", body, "times are text here"),
            ("less", "Printed", less, "a key is missing"),
            ("more", "Printed", {**body, "unheard_of": 1}, "an unknown key"),
        ):
            lines += [f"// @ts-expect-error: {mistake}"] if mistake else []
            lines.append(f"export const {name}{number}: {kind}<{form}> = {json.dumps(value)};")
    (tmp_path / "use.ts").write_text("\n".join(lines))
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", TYPESCRIPT]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    if installed.returncode:
        pytest.fail(installed.stderr) if os.environ.get("CI") else pytest.skip(installed.stderr)
    compiler = tmp_path / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([compiler, *STRICT, "use.ts"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
