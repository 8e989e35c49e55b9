"""Draw the pictures of the pages: `python docs/pictures/make.py [tail] [flow]`; without words, all of them.

`tail.svg` shows a real run: a daemon with the full network and random weights listens to synthesised chords, is paused and
resumed, and `mertd tail` prints what arrives. `flow.svg` is the way of the audio; `processes.svg` is the same with the files.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
MERTD = [sys.executable, "-P", "-m", "mertd"]
PATIENCE_S = 120
COLUMNS = 136
"""Characters in a line of the terminal's picture."""

THEME = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [
        (48, 54, 61),
        (255, 123, 114),
        (126, 231, 135),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (201, 209, 217),
    ],
    [
        (110, 118, 129),
        (255, 161, 152),
        (126, 231, 135),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (240, 246, 252),
    ],
)
STYLES = (
    (r"^\d\d:\d\d:\d\d\.\d\d( – \d\d:\d\d:\d\d\.\d\d)?( ±\d+ ms)?", "bright_black"),
    (r"\b[a-z]+#\d+", "bold cyan"),
    (r"(?<=  )booth(?=  )", "bold cyan"),
    (r"\[[+-].*?\]", "green"),
    (r"\bcos [\d.]+", "yellow"),
    (r"\b(paused|resumed|epoch|device_lost|device_back|health|started|stopping)\b(?=  )", "bold magenta"),
    (r"UNTRAINED", "bright_black"),
)
"""What is coloured in a line of `mertd tail`, which itself prints plain text."""


# The terminal


def record() -> list[str]:
    """Return the lines that `mertd tail --events` prints of a stream that is paused and resumed."""
    with tempfile.TemporaryDirectory(prefix="mertd-picture-") as folder:
        publish, control = f"ipc://{folder}/s/publish", f"ipc://{folder}/s/control"
        options = ["--source", "synth:chords?name=booth", "--weights", "random:0", "--window", "10", "--hop", "5"]
        daemon = subprocess.Popen([*MERTD, "run", *options, "--bind", publish, "--control", control, "--log-level", "error"])
        command = [*MERTD, "tail", "--connect", publish, "--control", control, "--events"]
        command += ["--count", "5", "--timeout", str(PATIENCE_S)]
        lines: list[str] = []
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
                assert tail.stdout
                for line in tail.stdout:
                    lines.append(line.rstrip("\n"))
                    if "#2 " in line:
                        for request in ("pause", "resume"):
                            subprocess.run([*MERTD, "control", request, "--control", control], check=True, stdout=sys.stderr)
            return lines
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE_S)


def terminal(command: str, lines: list[str]) -> str:
    """Return a picture of a terminal with a command and its output."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    for line in lines:
        text = Text(line)
        for pattern, style in STYLES:
            text.highlight_regex(pattern, style)
        console.print(text, soft_wrap=False, no_wrap=True, overflow="ellipsis")
    svg = console.export_svg(title="mertd", theme=THEME, font_aspect_ratio=0.61)
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)  # a picture fetches nothing
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


# The flow

AUDIO = "#1f6feb"
VECTOR = "#8250df"
REQUEST = "#6e7781"
INK = "#1f2328"
FONT = "font-family='ui-sans-serif, Helvetica, Arial, DejaVu Sans, sans-serif'"


def text(
    x: float, y: float, words: str, size: int = 13, fill: str = INK, anchor: str = "middle", weight: str = "normal"
) -> str:
    place = f"x='{x}' y='{y}' font-size='{size}' fill='{fill}' text-anchor='{anchor}' font-weight='{weight}'"
    return f"<text {place} {FONT}>{escape(words)}</text>"


def box(x: float, y: float, w: float, h: float, title: str, lines: list[str], fill: str, stroke: str) -> str:
    """Return a box with a title and lines under it."""
    parts = [f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='8' fill='{fill}' stroke='{stroke}' stroke-width='1.5'/>"]
    top = y + h / 2 - (len(lines) * 17) / 2 + 5
    parts.append(text(x + w / 2, top, title, 14, weight="bold"))
    parts += [text(x + w / 2, top + 18 + 17 * i, line, 12, "#57606a") for i, line in enumerate(lines)]
    return "".join(parts)


def arrow(
    points: list[tuple[float, float]], color: str, label: str = "", at: tuple[float, float] = (0, 0), anchor: str = "middle"
) -> str:
    """Return an arrow along points, with a label at a place."""
    path = " ".join(f"{x},{y}" for x, y in points)
    name = {AUDIO: "audio", VECTOR: "vector", REQUEST: "request"}[color]
    line = f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2' marker-end='url(#{name})'/>"
    return line + (text(*at, label, 12, color, anchor) if label else "")


def flow(files: dict[str, str]) -> str:
    """Return the picture of the processes and what goes between them. `files`: by box, where it lies; empty for no files."""
    width, height = 1000, 372

    def lines(name: str, *words: str) -> list[str]:
        return [*words, *([files[name]] if name in files else [])]

    marks = "".join(
        f"<marker id='{name}' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0,0 L10,5 L0,10 z' fill='{color}'/></marker>"
        for name, color in (("audio", AUDIO), ("vector", VECTOR), ("request", REQUEST))
    )
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img'>",
        "<title>How mertd turns audio into embeddings</title>",
        f"<defs>{marks}</defs><rect width='{width}' height='{height}' rx='10' fill='#ffffff'/>",
        "<rect x='168' y='26' width='624' height='322' rx='12' fill='#f6f8fa' stroke='#d0d7de' stroke-dasharray='6 5'/>",
        text(184, 48, "one daemon: mertd run", 12, "#57606a", "start"),
        box(20, 70, 118, 108, "sources", ["microphone", "loopback", "file, pipe"], "#ffffff", "#d0d7de"),
        box(
            190,
            70,
            168,
            108,
            "capture process",
            lines("capture", "one for each source", "mono, 24 kHz, clock"),
            "#ddf4ff",
            AUDIO,
        ),
        box(408, 70, 146, 108, "ring", lines("ring", "shared memory,", "by sample number"), "#ffffff", AUDIO),
        box(604, 70, 170, 108, "embed process", lines("embed", "MERT-v1-95M", "on GPU or CPU"), "#fbefff", VECTOR),
        box(
            190,
            248,
            584,
            80,
            "supervisor",
            lines("supervisor", "plans windows (30 s, every 5 s) · publishes · answers · restarts what fails"),
            "#ffffff",
            "#57606a",
        ),
        box(
            854,
            180,
            126,
            148,
            "clients",
            ["your program", "mertd tail", "Python, C, Node,", "jq, Swift, Rust"],
            "#ffffff",
            "#d0d7de",
        ),
        arrow([(138, 124), (188, 124)], AUDIO),
        arrow([(358, 124), (406, 124)], AUDIO, "audio", (382, 114)),
        arrow([(554, 124), (602, 124)], AUDIO, "audio", (578, 114)),
        arrow([(250, 178), (250, 246)], REQUEST, "reports: samples up to N, clock, faults", (260, 217), "start"),
        arrow([(648, 248), (648, 180)], REQUEST, "windows due", (640, 217), "end"),
        arrow([(704, 178), (704, 246)], VECTOR, "vectors", (712, 217), "start"),
        arrow([(774, 272), (852, 272)], VECTOR, "PUB", (826, 264)),
        arrow([(854, 306), (776, 306)], REQUEST, "control", (826, 323)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


FILES = {
    "capture": "mertd/capture",
    "ring": "mertd/ring.py",
    "embed": "mertd/embed",
    "supervisor": "mertd/daemon · mertd/processes · mertd/windows.py · mertd/wire · mertd/stream",
}


def main() -> None:
    chosen = sys.argv[1:] or ["tail", "flow"]
    if "flow" in chosen:
        (HERE / "flow.svg").write_text(flow({}), encoding="utf-8")
        (HERE / "processes.svg").write_text(flow(FILES), encoding="utf-8")
    if "tail" in chosen:
        (HERE / "tail.svg").write_text(terminal("uv run mertd tail --events", record()), encoding="utf-8")


if __name__ == "__main__":
    main()
