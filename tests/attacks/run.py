"""Attack a real daemon in every way of the catalogue, and hold it to the bars of `trial.py`.

Run: PYTHONPATH=tests python tests/attacks/run.py [--only NAME] [--all] [--seconds S] [--seed N]
[--json FILE] [--markdown FILE]

Each attack gets a daemon of its own, and ends with SIGTERM at a random moment of it. Exits with 1 if a bar is missed.
`--markdown docs/security.md` fills the table of that page. The first rows are without an attack: what they show is this
machine's own.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from attacks import table
from attacks.catalogue import trials
from attacks.trial import Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="Attacks whose name contains this text. Repeatable.")
    parser.add_argument("--all", action="store_true", help="Also those that are left out of CI to save time.")
    parser.add_argument("--seconds", type=float, default=4.0, help="How long each attack lasts. Default: 4.")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument(
        "--tolerance", type=float, default=1.0, help="Factor by which times and memory may miss their bars, on a busy machine."
    )
    parser.add_argument("--json", type=Path, help="Where to write the figures.")
    parser.add_argument("--markdown", type=Path, help="A page whose table of attacks is to be filled.")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    rows: list[Row] = []
    began = time.monotonic()
    for name, run in trials(options.only, options.all).items():
        row = run(options.seconds, random.Random(f"{options.seed} {name}"))
        rows.append(row)
        print(f"{time.monotonic() - began:6.1f}  {table.line(row)}", flush=True)
        for miss in row.misses():
            print(f"        MISSED {name}: {miss}", flush=True)
    print(f"\n{table.text(rows)}")
    if options.json:
        options.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        table.fill(options.markdown, rows)
    missed = [f"{row.name}: {miss}" for row in rows for miss in row.misses(options.tolerance)]
    if missed:
        print(f"\n{len(missed)} bars missed; to repeat: --seconds {options.seconds:g} --seed {options.seed}")
        sys.exit(1)
    print("\nno bar was missed" if options.tolerance == 1.0 else f"\nno bar was missed by a factor of {options.tolerance:g}")


if __name__ == "__main__":
    main()
