"""The dashboard and the alerts of examples/grafana: each expression asks for what there is."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml
from harness import ROOT, Node, eventually
from scrapes import HERE, Scrape
from terms import Atom

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

LATER = {"hornbeam_peer_losses_total": {"room", "reason"}}
"""Labels of what has no series as long as nothing was lost."""

METRIC = re.compile(r"\b(?:hornbeam|erlang)_[a-z0-9_]+\b")
SELECTOR = re.compile(r"((?:hornbeam|erlang)_[a-z0-9_]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


@pytest.fixture(scope="module")
def scraped(tmp_path_factory) -> Iterator[Scrape]:
    """Scrape a node of a cluster of two; one that has lost nothing between nodes."""
    with contextlib.ExitStack() as stack:
        meeting = tmp_path_factory.mktemp("meeting")
        names = [f"{name}@127.0.0.1" for name in ("one", "other")]
        nodes = [
            stack.enter_context(closing(Node(tmp_path_factory.mktemp("node"), name=name,
                                             meeting=meeting)))
            for name in names
        ]  # fmt: skip
        servers = [
            node.serve("sockets:application", metrics=HERE,
                       cluster=told(names, tmp_path_factory.mktemp("data")))
            for node in nodes
        ]  # fmt: skip
        httpx.get(servers[0].http)
        assert nodes[0].eval("hornbeam:reload()", 60) == "ok"  # so that a worker has ended

        def whole() -> Scrape | None:
            scrape = Scrape(servers[0])
            is_whole = (
                scrape.of("hornbeam_worker_loop_lag_seconds")
                and scrape.value("hornbeam_peer_up", peer=names[1]) == 1
                and scrape.value("hornbeam_consensus_reachable_members") == 2
            )
            return scrape if is_whole else None

        yield eventually(whole)


def told(names: list[str], data_dir: Path) -> dict:
    settings = {"name": "shop", "join": names, "data_dir": str(data_dir), "members": 2}
    return {Atom(key): value for key, value in settings.items()}


def labels(scrape: Scrape, name: str) -> set[str]:
    return (
        {label for of in scrape.of(name) for label, _ in of}
        | OF_PROMETHEUS
        | LATER.get(name, set())
    )


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_there_are(scraped, expression):
    names = set(METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))
    known = {name for name, _ in scraped} | {*LATER}
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
