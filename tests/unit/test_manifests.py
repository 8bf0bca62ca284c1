"""The container image and the manifests start nodes that this version of the command understands."""

import configparser
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from ringhold.node.cli.commands import app
from ringhold.node.cli.settings import load_config
from ringhold.node.config import NodeConfig
from ringhold.node.ending import Ending, StatefulSet, decide, pod

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "manifests" / "base"
KUBERNETES_VERSIONS = ("1.29", "1.31", "1.33", "1.35", kubernetes_validate.latest_version())
POD = {"POD_NAMESPACE": "store", "NODE_NAME": "machine-7"}
LEAVERS = 4
"""So many pods may leave in one step: seven become three."""

Resource = dict[str, Any]


@pytest.fixture(autouse=True)
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kubelet tells every pod."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")


def resources() -> list[Resource]:
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    texts = [(BASE / name).read_text() for name in kustomization["resources"]]
    return [resource for text in texts for resource in yaml.safe_load_all(text)]


def resource(kind: str, name: str = "ringhold") -> Resource:
    (found,) = [each for each in resources() if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def container() -> Resource:
    (only,) = resource("StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def arguments(ordinal: int) -> list[str]:
    """The arguments of a pod after the kubelet has put the variables in."""
    variables = POD | {"POD_NAME": f"ringhold-{ordinal}"}
    return [re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], argument) for argument in container()["args"]]


def serve_parameters(command_line: list[str]) -> Mapping[str, Any]:
    """What `ringhold serve` makes of a command line; an unknown or malformed option raises."""
    group: Any = typer.main.get_command(app)
    name, *rest = command_line
    parameters: Mapping[str, Any] = group.commands[name].make_context(name, list(rest)).params
    return parameters


def node_config(command_line: list[str]) -> NodeConfig:
    """The node's settings that a command line stands for, checked as at a start."""
    parameters = serve_parameters(command_line)
    given = {name: value for name, value in parameters.items() if value is not None and name != "config"}
    return load_config(given, None)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("manifest", resources(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_manifests_are_valid(manifest: Resource, version: str) -> None:
    """Each manifest fits the schema of each Kubernetes version that we name, without unknown fields."""
    kubernetes_validate.validate(manifest, version, strict=True)


def test_every_manifest_is_applied() -> None:
    """kustomization.yaml lists every file beside it."""
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


def test_image_is_that_of_this_version() -> None:
    """The manifests run the image that `make image` builds from this tree."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (image,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert (image["name"], image["newTag"]) == (container()["image"], setup["metadata"]["version"])


@pytest.mark.parametrize("ordinal", range(3))
def test_pods_start_with_flags_that_exist(ordinal: int) -> None:
    """The arguments of each pod are ones that `ringhold serve` takes, and make a legal configuration."""
    config = node_config(arguments(ordinal))
    assert (config.name, config.host, config.expect) == (f"ringhold-{ordinal}", "machine-7", 3)
    assert config.data_dir == Path("/data")


def test_first_pod_founds_the_cluster() -> None:
    """The advertised HTTP address of each of the first pods is the seed of its number, so the first is a founder."""
    configs = [node_config(arguments(ordinal)) for ordinal in range(3)]
    assert [config.http_address for config in configs] == list(configs[0].seeds)
    assert {config.seeds for config in configs} == {configs[0].seeds}
    assert configs[0].expect == len(configs[0].seeds) == resource("StatefulSet")["spec"]["replicas"]


def test_variables_of_the_arguments_are_set() -> None:
    """Every $(NAME) in the arguments is an environment variable of the pod, none is taken for configuration."""
    used = set(re.findall(r"\$\((\w+)\)", " ".join(container()["args"])))
    names = {variable["name"] for variable in container()["env"]}
    assert used == names
    assert not [name for name in names if name.startswith("RINGHOLD_")]
    assert resource("StatefulSet")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_ports_agree() -> None:
    """Flags, container ports, services and the image's EXPOSE name the same two ports."""
    config = node_config(arguments(0))
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"grpc": int(config.grpc.rpartition(":")[2]), "http": int(config.http.rpartition(":")[2])}
    for name in ("ringhold", "ringhold-peers"):
        assert {port["targetPort"]: port["port"] for port in resource("Service", name)["spec"]["ports"]} == ports
    assert sorted(ports.values()) == sorted(int(port) for port in instruction("EXPOSE").split())


def test_peers_resolve_before_they_are_ready() -> None:
    """The peers' service is the one that names the pods, has no virtual address, and lists pods that are not ready."""
    service = resource("Service", "ringhold-peers")["spec"]
    assert resource("StatefulSet")["spec"]["serviceName"] == "ringhold-peers"
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in resource("Service")["spec"]


def test_selectors_find_the_pods() -> None:
    """Services, the set and the disruption budget select by labels that the pods carry."""
    template = resource("StatefulSet")["spec"]["template"]
    selectors = [
        resource("StatefulSet")["spec"]["selector"]["matchLabels"],
        resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *[resource("Service", name)["spec"]["selector"] for name in ("ringhold", "ringhold-peers")],
    ]
    assert all(selector.items() <= template["metadata"]["labels"].items() for selector in selectors)


def test_pods_have_no_rights_on_their_machine() -> None:
    """Pods run as a numbered user, write to their volumes only, and gain no rights."""
    template = resource("StatefulSet")["spec"]["template"]["spec"]
    security = container()["securityContext"]
    assert template["securityContext"]["runAsNonRoot"] is True
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
    assert instruction("USER") == "{runAsUser}:{runAsGroup}".format_map(template["securityContext"])


def test_pods_may_get_their_own_set_and_nothing_else() -> None:
    """One `get` of one StatefulSet, bound to the account that the pods run under; only they have its token."""
    (rule,) = resource("Role")["rules"]
    name = resource("StatefulSet")["metadata"]["name"]
    assert rule == {"apiGroups": ["apps"], "resources": ["statefulsets"], "resourceNames": [name], "verbs": ["get"]}
    binding = resource("RoleBinding")
    account = resource("ServiceAccount")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ringhold"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]
    template = resource("StatefulSet")["spec"]["template"]["spec"]
    assert template["serviceAccountName"] == account["metadata"]["name"]
    assert (account["automountServiceAccountToken"], template["automountServiceAccountToken"]) == (False, True)


def test_pods_ask_for_the_set_that_they_belong_to() -> None:
    """The flags make a pod ask, and its name tells the set that it may see, and its ordinal."""
    config = node_config(arguments(2))
    assert (config.on_sigterm, config.kubernetes_api) == ("kubernetes", "https://10.96.0.1:443")
    name = resource("StatefulSet")["metadata"]["name"]
    assert pod(config.name or "") == (name, 2)
    assert config.stateful_set in (None, name)


def test_the_first_pods_stay() -> None:
    """As applied, no pod of the set would leave for good, and nothing deletes the volume of one that has."""
    spec = resource("StatefulSet")["spec"]
    wanted = StatefulSet(spec["replicas"], spec.get("ordinals", {}).get("start", 0))
    assert {decide(ordinal, wanted) for ordinal in range(3)} == {Ending.RESTART}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Retain", "whenDeleted": "Retain"}


def test_a_hook_does_not_decide() -> None:
    """The process itself hears SIGTERM and decides: a preStop hook would only take from its time."""
    assert "lifecycle" not in container()


def test_probes_ask_health() -> None:
    """Readiness asks whether the node serves, the other probes only whether its loop runs."""
    paths = {kind: container()[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }


def test_pods_have_time_to_leave() -> None:
    """The grace period lets several full volumes be copied one after the other at half of the throttle, and more."""
    spec = resource("StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    gibibytes = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    copying_s = gibibytes * 1024**3 / (node_config(arguments(0)).snapshot_bytes_per_s_max / 2)
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= LEAVERS * copying_s + 1_800


def test_a_pod_that_hangs_is_killed_soon() -> None:
    """The long grace period is not for a process that answers no probe; but it may drain."""
    for probe in ("startupProbe", "livenessProbe"):
        grace_s = container()[probe]["terminationGracePeriodSeconds"]
        assert 2 * NodeConfig(Path("/data")).drain_timeout_s < grace_s <= 60
    assert "terminationGracePeriodSeconds" not in container()["readinessProbe"]


def test_disruptions_take_one_pod_at_a_time() -> None:
    """Drained machines and a growing or shrinking set go together: the budget counts pods, whatever their number."""
    assert resource("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def instructions() -> list[tuple[str, str]]:
    """The (name, rest) of each instruction of the Dockerfile, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


def instruction(wanted: str) -> str:
    """The last instruction of that name: the one that counts."""
    return [rest for name, rest in instructions() if name == wanted][-1]


def copied() -> list[str]:
    """What the builder is given of the repository."""
    sources = [shlex.split(rest)[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    return [source for group in sources for source in group]


def test_image_starts_with_flags_that_exist() -> None:
    """The image's default command is one that `ringhold` takes."""
    parameters = serve_parameters(json.loads(instruction("CMD")))
    assert json.loads(instruction("ENTRYPOINT")) == ["ringhold"]
    assert (str(parameters["data_dir"]), parameters["grpc"]) == ("/data", "0.0.0.0:50051")


def test_example_of_the_image_starts() -> None:
    """The `docker run` line at the top of the Dockerfile is a legal configuration."""
    comment = re.search(r"# +(docker run .*?)\n\n", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    assert comment is not None
    words = shlex.split(comment[1].replace("\\\n#", " "))
    config = node_config(words[words.index("serve") :])
    assert (config.expect, config.grpc_address) == (1, "127.0.0.1:50051")


def test_image_is_built_from_all_of_the_package() -> None:
    """Everything that the builder copies exists and passes .dockerignore, and every package is among it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    tops = {name.split(".")[1] for name in setup["options"]["packages"].split() if "." in name}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert set(copied()) == kept
    assert tops <= set(copied())


def test_image_needs_no_tools() -> None:
    """The image is a slim one of a Python that we support, and probes itself with Python."""
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert bases == ["python:3.13-slim", "python:3.13-slim"]
    assert '"python"' in instruction("HEALTHCHECK")
    assert "/health/live" in instruction("HEALTHCHECK")
    assert instruction("VOLUME") == "/data"
