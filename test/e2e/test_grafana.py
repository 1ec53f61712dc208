"""The dashboard and the alerts of examples/grafana: each expression asks for what there is."""

from __future__ import annotations

import json
import re

import httpx
import pytest
import yaml
from harness import ROOT, eventually
from scrapes import HERE, Scrape

FOLDER = ROOT / "examples" / "grafana"

OF_PROMETHEUS = {"job", "instance"}
"""Labels that it adds itself."""


def dashboard_expressions() -> list[str]:
    board = json.loads((FOLDER / "hornbeam.json").read_text())
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    variables = [
        variable["query"]["query"]
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]
    return panels + variables


def rules() -> list[dict]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


EXPRESSIONS = dashboard_expressions() + [rule["expr"] for rule in rules()]

METRIC = re.compile(r"\b(?:hornbeam|erlang)_[a-z0-9_]+\b")
SELECTOR = re.compile(r"((?:hornbeam|erlang)_[a-z0-9_]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


@pytest.fixture(scope="module")
def scraped(shared) -> Scrape:
    server = shared.serve("sockets:application", metrics=HERE)
    httpx.get(server.http)
    assert shared.node.eval("hornbeam:reload()", 60) == "ok"  # so that a worker has ended

    def whole() -> Scrape | None:
        scrape = Scrape(server)
        return scrape if scrape.of("hornbeam_worker_loop_lag_seconds") else None

    return eventually(whole)


def labels(scrape: Scrape, name: str) -> set[str]:
    return {label for of in scrape.of(name) for label, _ in of} | OF_PROMETHEUS


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_there_are(scraped, expression):
    names = set(METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))
    known = {name for name, _ in scraped}
    assert names <= known
    for name, inside in SELECTOR.findall(expression):
        assert set(MATCHER.findall(inside)) <= labels(scraped, name), name
    of_all = set().union(*(labels(scraped, name) for name in names)) if names else OF_PROMETHEUS
    for inside in GROUPING.findall(expression):
        assert {label.strip() for label in inside.split(",")} <= of_all


def test_the_dashboard_asks_by_its_variables_alone():
    board = json.loads((FOLDER / "hornbeam.json").read_text())
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(board))) - {"__rate_interval"}
    assert used <= variables
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_of_what(scraped, rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    told = set(re.findall(r"\$labels\.([a-z_]+)", rule["annotations"]["summary"]))
    names = set(METRIC.findall(rule["expr"]))
    kept = set().union(*(labels(scraped, name) for name in names)) | OF_PROMETHEUS
    if groupings := GROUPING.findall(rule["expr"].split("on (")[0]):
        kept = {label.strip() for inside in groupings for label in inside.split(",")}
    assert told <= kept


def test_the_guide_and_prometheus_agree_on_names_of_limits(scraped):
    """What an alert picks by its value is one that there is."""
    limits = {dict(of)["limit"] for of in scraped.of("hornbeam_limits_total")}
    (picked,) = re.findall(r'limits_total\{limit=~"([^"]*)"', "".join(EXPRESSIONS))
    assert set(picked.split("|")) <= limits
