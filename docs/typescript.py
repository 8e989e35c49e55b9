"""Write `examples/mertd.d.ts`, the TypeScript types of messages: `python docs/typescript.py` (with `--check`, only compare).

Fields, types and meanings are those of the tables of docs/protocol.md, which the tests compare with the code and with a daemon.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mertd.vocabulary import EventName, Phase, StreamState

DOCS = Path(__file__).parent
TARGET = DOCS.parent / "examples" / "mertd.d.ts"

TYPES = {
    "integer": 'F["integer"]',
    "text": "string",
    "16 bytes": 'F["boot"]',
    "float": "number",
    "boolean": "boolean",
    "list of integers": 'F["integer"][]',
    "bytes": 'F["data"]',
}
"""TypeScript's types, by the words of the page's tables."""

SPECIAL = {
    "schema": "1",
    "vector.dtype": '"<f4"',
    "vector.shape": '[layers: F["integer"], numbers: F["integer"]]',
    "event": "Open<EventName>",
    "phase": "Open<Phase>",
    "state": "string",
    "detail": "Record<string, unknown>",
    "status.model": "ModelStatus<F> | Record<string, never>",
    "status.streams": "Record<string, StreamStatus<F>>",
    "status.processes": "Record<string, ProcessStatus<F>>",
}
"""Types that say more than the page does."""

TEXT_KEYS = {"state", "source", "description", "problem", "name", "weights", "space", "backend", "device", "precision"}
TEXT_KEYS |= {"last_error", "public_key", "keys_problem"}
BOOLEAN_KEYS = {"trained", "curve"}

HEAD = """\
// Types of what mertd sends. Written by docs/typescript.py from docs/protocol.md; do not edit.
//
//     import type { Message, Decoded } from "./mertd";
//     const message = decode(payload, { useBigInt64: true }) as Message<Decoded>;
//
// A message has new keys in new versions, and names and words that are not listed here: ignore what you do not know.

/** How numbers and bytes arrive: it depends on what reads them. */
export interface Form {
  integer: number | bigint;
  /** Nanoseconds: keys that end in _ns. Beyond 2^53, JavaScript's numbers are rounded to a quarter of a microsecond. */
  time: number | bigint | string;
  boot: Uint8Array | string;
  data: Uint8Array | number[][];
}

/** Decoded with `@msgpack/msgpack` and `useBigInt64`: large integers are bigint, small ones are numbers. */
export interface Decoded extends Form {
  integer: number | bigint;
  time: number | bigint;
  boot: Uint8Array;
  data: Uint8Array;
}

/** A line of `mertd tail --json`, parsed with `JSON.parse`: times are rounded. */
export interface Printed extends Form {
  integer: number;
  time: number;
  boot: string;
  data: number[][];
}

/** A line of `mertd tail --text-times`, parsed with `JSON.parse`: `BigInt(message.time.start_ns)` is exact. */
export interface PrintedExactly extends Form {
  integer: number;
  time: string;
  boot: string;
  data: number[][];
}

/** A word of a list that may grow. */
export type Open<Word extends string> = Word | (string & {});
"""


def section(page: str, name: str) -> str:
    """Return what stands under a heading, up to the next one."""
    after = re.split(rf"^#+ {re.escape(name)}\n", page, maxsplit=1, flags=re.MULTILINE)[1]
    return re.split(r"^#+ ", after, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with this word."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text + "\n", re.MULTILINE)
    assert found is not None, head
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def words(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def message(page: str, kind: str, known: dict[str, tuple[str, str]]) -> str:
    """Return the interface of a kind of message. `known`: types and meanings that later kinds refer to with "as above"."""
    fields: dict[str, tuple[str, str]] = {}
    for names, type_, meaning in table(section(page, kind), "field"):
        for name in words(names):
            if name not in (kind, "kind") and (name in known and not type_):
                fields[name] = known[name]
            elif name in ("schema", "kind", *fields) or not type_:
                fields[name] = known.get(name, ("string", meaning)) if name != "kind" else (f'"{kind}"', "")
            else:
                meaning = known[name][1] if meaning == "as above" else meaning
                special = SPECIAL.get(f"{kind}.{name}") or SPECIAL.get(name)
                fields[name] = (special or ('F["time"]' if name.endswith("_ns") else TYPES[type_]), meaning)
    fields["schema"], fields["kind"] = ("1", "version of this format"), (f'"{kind}"', "")
    known |= fields
    return interface(kind.capitalize(), fields)


def interface(name: str, fields: dict[str, tuple[str, str]]) -> str:
    """Return an interface. Names with a point are fields of a map, which becomes an interface within."""
    lines, inner = [f"export interface {name}<F extends Form = Decoded> {{"], ""
    for field, (type_, meaning) in fields.items():
        outer, point, short = field.partition(".")
        if (outer if point else "") != inner:
            lines += ["  };"] if inner else []
            inner = outer if point else ""
            lines += [f"  {inner}: {{"] if inner else []
        indent = "    " if inner else "  "
        lines += [f"{indent}/** {plain(meaning)} */"] if meaning else []
        lines.append(f"{indent}{short or field}: {type_};")
    lines += ["  };"] if inner else []
    return "\n".join([*lines, "}"])


def keys(page: str, name: str, head: str, optional: bool) -> str:
    """Return the interface of a map of the status. `optional`: not every map has every key."""
    lines = [f"export interface {name}<F extends Form = Decoded> {{"]
    for row in table(section(page, "status"), head):
        lines.append(f"  /** {plain(row[-1])} */")
        for key in words(row[0]):
            if key in ("rejected", "skips"):  # reasons of backends; counts of connections and of windows
                type_ = "Record<string, string>" if name == "ModelStatus" else 'Record<string, F["integer"]>'
            elif key in TEXT_KEYS:
                type_ = "Open<StreamState>" if (name, key) == ("StreamStatus", "state") else "string"
            elif key in BOOLEAN_KEYS:
                type_ = "boolean"
            elif key == "agreement":
                type_ = "number"
            else:
                type_ = 'F["time"]' if key.endswith("_ns") else 'F["integer"]'
            lines.append(f"  {key}{'?' if optional and key not in ('pid', 'state', 'restarts') else ''}: {type_};")
    return "\n".join([*lines, "}"])


def plain(text: str) -> str:
    """Return a text of the page as it may stand in a comment."""
    return text.replace("*/", "* /").strip()


def union(name: str, words_: type[EventName] | type[Phase] | type[StreamState]) -> str:
    """Return a type that lists words."""
    return f"export type {name} =" + "".join(f'\n  | "{word}"' for word in words_) + ";"


def types() -> str:
    """Return the whole file."""
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    known: dict[str, tuple[str, str]] = {}
    parts = [
        HEAD.rstrip(),
        "export type Message<F extends Form = Decoded> = Embedding<F> | Event<F> | Status<F>;",
        *(message(page, kind, known) for kind in ("embedding", "event", "status")),
        keys(page, "StreamStatus", "key", optional=False),
        keys(page, "ModelStatus", "model's key", optional=False),
        keys(page, "ProcessStatus", "process's key", optional=True),
        union("EventName", EventName),
        union("Phase", Phase),
        union("StreamState", StreamState),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    if "--check" in sys.argv and TARGET.read_text(encoding="utf-8") != types():
        raise SystemExit(f"{TARGET.name} differs from docs/protocol.md; run `python docs/typescript.py`")
    TARGET.write_text(types(), encoding="utf-8")


if __name__ == "__main__":
    main()
