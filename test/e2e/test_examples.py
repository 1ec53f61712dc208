"""The files of examples/ that others read: systemd's, Docker's, and what they tell the command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from commands import WORDS, Running, closing
from harness import ROOT

EXAMPLES = ROOT / "examples"
UNIT = (EXAMPLES / "systemd" / "hello.service").read_text()
DOCKERFILE = re.sub(r"\\\n\s*", "", (EXAMPLES / "docker" / "Dockerfile").read_text())


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return value


def printed(folder: Path, *words: str, **variables: str) -> str:
    """Return the configuration that the command understands."""
    answer = subprocess.run(
        [*WORDS, *words, "--print-config"], cwd=folder, env={"PATH": "/usr/bin:/bin"} | variables,
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    program = shutil.which("systemd-analyze") or pytest.skip("no systemd-analyze here")
    hornbeam = shlex.split(setting("ExecStart"))[0]
    (tmp_path / "hornbeam").symlink_to("/bin/true")
    file = tmp_path / "hello.service"
    file.write_text(UNIT.replace(hornbeam, str(tmp_path / "hornbeam")))
    answer = subprocess.run(
        [program, "verify", file], check=False, capture_output=True, text=True, timeout=60
    )
    assert [line for line in answer.stderr.splitlines() if file.name in line] == []


def test_the_unit_says_what_the_command_understands(tmp_path):
    hornbeam, *flags = shlex.split(setting("ExecStart"))
    assert Path(hornbeam).parent.parent == Path(setting("WorkingDirectory")) / ".venv"
    told = printed(tmp_path, *flags)
    assert "workers = 4" in told
    assert "0.0.0.0:8000" in told


def test_the_unit_gives_the_time_that_a_start_may_take(tmp_path):
    minutes = int(re.findall(r'startup[-_]timeout = "(\d+)m"', printed(tmp_path, "main:app"))[0])
    assert setting("Type") == "notify"
    assert int(setting("TimeoutStartSec").removesuffix("min")) > minutes


def test_the_unit_gives_the_time_that_a_stop_may_take(tmp_path):
    seconds = int(re.findall(r'shutdown[-_]timeout = "(\d+)s"', printed(tmp_path, "main:app"))[0])
    assert int(setting("TimeoutStopSec")) >= 2 * seconds + 5


def test_the_image_says_what_the_command_understands(tmp_path):
    words = re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)[-1].split()
    variables = dict(word.split("=", 1) for word in words if word.startswith("HORNBEAM_"))
    told = printed(tmp_path, "main:app", **variables)
    assert "workers = 2" in told
    assert "0.0.0.0:8000" in told
    assert re.search("websocket[-_]resume = true", told)


def test_the_image_copies_files_that_there_are():
    for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = words.split()
        assert [source for source in sources if not (EXAMPLES / "docker" / source).exists()] == []


def test_compose_gives_the_time_that_a_stop_may_take(tmp_path):
    service = yaml.safe_load((EXAMPLES / "docker" / "compose.yaml").read_text())["services"][
        "hello"
    ]
    seconds = int(re.findall(r'shutdown[-_]timeout = "(\d+)s"', printed(tmp_path, "main:app"))[0])
    assert int(service["stop_grace_period"].removesuffix("s")) >= 2 * seconds + 5
    assert service["ports"] == ["8000:8000"]
    assert "EXPOSE 8000" in DOCKERFILE


MANIFESTS = EXAMPLES / "kubernetes"


@pytest.fixture(scope="module")
def pod() -> dict:
    return yaml.safe_load((MANIFESTS / "deployment.yaml").read_text())["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod) -> dict:
    (container,) = pod["containers"]
    return container


@pytest.fixture(scope="module")
def variables(container) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def seconds(told: str, option: str) -> int:
    (number, unit) = re.findall(rf'^(?:# )?{option} = "?(\d+)(m?)s?"?', told, re.MULTILINE)[0]
    return int(number) * (60 if unit else 1)


def test_a_pod_has_the_time_that_its_stop_may_take(pod, container, variables, tmp_path):
    told = printed(tmp_path, "main:app", **variables)
    drain, shutdown = seconds(told, "drain_delay"), seconds(told, "shutdown_timeout")
    assert drain > 0
    assert pod["terminationGracePeriodSeconds"] == drain + 2 * shutdown + 5
    assert "lifecycle" not in container


def test_a_pod_has_the_time_that_its_start_may_take(container, variables, tmp_path):
    probe = container["startupProbe"]
    may_take = seconds(printed(tmp_path, "main:app", **variables), "startup_timeout")
    assert probe["periodSeconds"] * probe["failureThreshold"] >= may_take


def test_the_probes_ask_where_the_server_answers(container, variables, tmp_path):
    (port,) = container["ports"]
    told = dict(variables) | {"HORNBEAM_PORT": "0"}
    with closing(Running(tmp_path, "naming:application", variables=told)) as running:
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            get = container[name]["httpGet"]
            assert get["port"] == port["name"]
            address = running.address().replace("0.0.0.0", "127.0.0.1")
            answer = httpx.get(address + get["path"], headers={"host": "10.1.2.3:8000"})
            assert (answer.status_code, answer.json()["status"]) == (200, "ready")


def test_the_service_sends_clients_to_the_pods(container):
    service = yaml.safe_load((MANIFESTS / "service.yaml").read_text())["spec"]
    deployment = yaml.safe_load((MANIFESTS / "deployment.yaml").read_text())["spec"]
    assert service["selector"] == deployment["selector"]["matchLabels"]
    assert service["selector"] == deployment["template"]["metadata"]["labels"]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_unit_has_the_time_that_its_stop_may_take(tmp_path):
    told = printed(tmp_path, *shlex.split(setting("ExecStart"))[1:])
    takes = seconds(told, "drain_delay") + 2 * seconds(told, "shutdown_timeout") + 5
    assert int(setting("TimeoutStopSec")) >= takes


# Clusters


def test_three_containers_join_by_the_name_of_their_service(tmp_path):
    compose = yaml.load((EXAMPLES / "docker" / "cluster.yaml").read_text(), Compose)
    hello, variables = compose["services"]["hello"], compose["services"]["hello"]["environment"]
    (port,) = hello["expose"]
    cookie = variables.pop("HORNBEAM_CLUSTER_COOKIE_FILE")
    assert cookie == f"/run/secrets/{hello['secrets'][0]}"
    assert_is_cluster(printed(tmp_path, "main:app", **variables), "hello", port)
    assert hello["secrets"] == list(compose["secrets"])


class Compose(yaml.SafeLoader):
    """Reads `!override`, by which one file replaces a list of another."""


Compose.add_constructor("!override", Compose.construct_sequence)


def test_pods_join_by_a_headless_service(tmp_path):
    overlay = MANIFESTS / "cluster"
    deployment = yaml.safe_load((overlay / "deployment.yaml").read_text())
    service, policy = yaml.safe_load_all((overlay / "nodes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value", FROM_ELSEWHERE) for each in container["env"]}
    told = printed(tmp_path, "main:app", **variables)
    (port,) = [each["port"] for each in service["spec"]["ports"]]
    assert_is_cluster(told, service["metadata"]["name"], port)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    (_, nodes) = policy["spec"]["ingress"]
    assert [each["port"] for each in nodes["ports"]] == [port]


FROM_ELSEWHERE = "10.0.0.1-of-sixteen-characters"


def assert_is_cluster(told: str, join: str, port: int | str) -> None:
    assert f'join = ["{join}"]' in told
    assert 'cluster = "hello"' in told
    assert "cluster_port" not in told
    assert int(port) == 4370
