"""The alert rules and the dashboard: valid, each alert proven, and of metrics that exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.pages import ROOT
from mertd.metrics.definitions import DEFINITIONS, MetricKind

RULES = ROOT / "examples" / "prometheus"
DASHBOARD = ROOT / "examples" / "grafana" / "mertd.json"
NAME = re.compile(r"\bmertd_[a-z0-9_]+")
SELECTOR = re.compile(r"\b(mertd_[a-z0-9_]+)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")
GRAFANA = {"$__rate_interval": "5m", "$daemon": ".*", "$stream": ".*"}
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="promtool is not installed"
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "mertd.rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return board


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for variable in dashboard()["templating"]["list"]:
        yield from re.findall(r"label_values\((.*), \w+\)", variable.get("definition", ""))


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def definition_name(name: str) -> str:
    """The metric that a sample is of; fails if it does not exist, or is asked for as another kind."""
    base = next((name.removesuffix(end) for end in OF_HISTOGRAMS if name.removesuffix(end) in DEFINITIONS), name)
    assert base in DEFINITIONS, name
    assert (base != name) == (DEFINITIONS[base].kind is MetricKind.HISTOGRAM), name
    return base


@NEEDS_PROMTOOL
def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", "mertd.rules.yml")
    promtool("check", "config", "prometheus.yml")


@pytest.mark.slow
@NEEDS_PROMTOOL
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "mertd.rules.test.yml")
    tests = yaml.safe_load((RULES / "mertd.rules.test.yml").read_text(encoding="utf-8"))["tests"]
    tried = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    assert sorted(tried) == sorted((rule["alert"], fires) for rule in rules() for fires in (True, False))


@NEEDS_PROMTOOL
def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    made = []
    for number, expression in enumerate(expressions()):
        for variable, value in GRAFANA.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        made.append({"record": f"dashboard:{number}", "expr": expression})
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}), encoding="utf-8")
    assert f"SUCCESS: {len(made)} rules found" in promtool("check", "rules", str(path))


def test_every_metric_exists_with_these_labels() -> None:
    used = set()
    for expression in expressions():
        for name in NAME.findall(expression):
            used.add(definition_name(name))
        for name, matchers in SELECTOR.findall(expression):
            asked = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
            assert asked <= {*DEFINITIONS[definition_name(name)].labels}, expression
        known = {label for name in NAME.findall(expression) for label in DEFINITIONS[definition_name(name)].labels} | {"le"}
        for labels in GROUPED.findall(expression):
            assert set(labels.split(", ")) <= known, expression
    assert len(used) > 20


def test_texts_of_alerts_use_labels_that_there_are() -> None:
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        known = {label for name in NAME.findall(rule["expr"]) for label in DEFINITIONS[definition_name(name)].labels}
        asked = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert asked <= known | {"instance", "job"}, rule["alert"]


def test_counters_are_looked_at_as_counters() -> None:
    """The bare value of a counter says nothing: it begins anew with the daemon."""
    for expression in expressions():
        for name in NAME.findall(expression):
            if DEFINITIONS[definition_name(name)].kind is not MetricKind.GAUGE:
                assert re.search(rf"(rate|increase)\({name}[^)]*\[", expression), expression


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
