"""Run the commands of a Markdown file: every fenced block marked `sh ci`, each in a shell of its own, as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LIMIT_S = 300


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh ci\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    if not blocks:
        raise SystemExit(f"{sys.argv[1]} has no block marked `sh ci`")
    for block in blocks:
        print(f"\n{block.rstrip()}\n" + "-" * 40, flush=True)
        subprocess.run(["bash", "-euo", "pipefail", "-c", block], check=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
