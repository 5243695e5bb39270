"""The compose file and the images: every service has as few rights as it needs, and nothing is open to the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted((ROOT / "deploy").rglob("*.Dockerfile"))

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
each_image = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)

# What would give back what was taken away.
RIGHTS = ("privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode", "cgroup_parent", "uts")


def with_defaults(text: str) -> str:
    """Replace ``${NAME:-default}`` by the default, as compose does for an unset variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of all instructions of a name."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)", text, re.MULTILINE)


def user_of(service: dict[str, Any]) -> str:
    """The user of a service, from the compose file or else its Dockerfile."""
    if "user" in service:
        return str(service["user"])
    build = service["build"]
    return instructions(ROOT / build["context"] / build["dockerfile"], "USER")[-1]


@each_service
def test_services_have_minimal_rights(service: dict[str, Any]) -> None:
    """The root file system is read-only, capabilities are dropped, and no program can gain privileges."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not [right for right in RIGHTS if right in service]


@each_service
def test_services_do_not_run_as_root(service: dict[str, Any]) -> None:
    """The user is given by number or name, and is not root."""
    user = user_of(service).split(":")[0]
    assert user
    assert user not in ("0", "root")


@each_service
def test_services_have_limits(service: dict[str, Any]) -> None:
    """Memory, processes and the length of logs are bounded, and the first process reaps the others."""
    assert re.fullmatch(r"\d+[mg]", with_defaults(service["deploy"]["resources"]["limits"]["memory"]))
    assert service["deploy"]["resources"]["limits"]["pids"] > 0
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["init"] is True


def test_services_come_back_and_jobs_do_not() -> None:
    """A build or a load test that failed is for a person to look at."""
    jobs = {name for name, service in SERVICES.items() if "restart" not in service}
    assert jobs == {"build", "loadtest", "loadtest-worker"}
    assert {service["restart"] for name, service in SERVICES.items() if name not in jobs} == {"unless-stopped"}


@each_service
def test_ports_are_for_this_machine_unless_asked(service: dict[str, Any]) -> None:
    """Every published port is bound to an address, which is loopback by default."""
    assert all(
        re.match(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\$\{\w+:-\d+\}:\d+$", port) for port in service.get("ports", [])
    )


@each_service
def test_mounts_from_the_host_are_read_only(service: dict[str, Any]) -> None:
    """Services write to volumes only; from the host, they get single files and folders of this project."""
    for mount in service.get("volumes", []):
        source, _, options = with_defaults(mount).partition(":")
        if source not in COMPOSE["volumes"]:
            assert source.startswith("./"), mount
            assert (ROOT / source).exists(), mount
            assert options.endswith(":ro"), mount


def test_gpu_service_has_the_config_and_the_engine_for_gpus() -> None:
    """TorchScript by default; ``GPU_ENGINE`` selects another."""
    assert "--gpu-engine ${GPU_ENGINE:-torchscript}" in SERVICES["build"]["command"]
    assert "--model-config-name=gpu" in map(with_defaults, SERVICES["triton"]["command"])


@pytest.mark.parametrize("service", ["triton", "triton-cpu"])
def test_server_ends_only_without_its_default_model(service: str) -> None:
    """Triton's default is to end with the first model that fails."""
    watchdog, server = " ".join(SERVICES[service]["entrypoint"]).split(" -- ")
    assert "--default-model=resnet50" in watchdog
    assert "--exit-on-error=false" in server


@each_service
def test_secrets_come_from_outside(service: dict[str, Any]) -> None:
    """No token or password is written down here, and none has a default that is known."""
    for name, value in service.get("environment", {}).items():
        if re.search(r"TOKEN|PASSWORD|SECRET|(^|_)KEY", name):
            assert value == f"${{{name}:-}}"


@each_service
def test_images_have_a_version(service: dict[str, Any]) -> None:
    """No image has the tag `latest`, so that the same version runs tomorrow."""
    if "image" in service:
        tag = service["image"].partition(":")[2]
        assert re.match(r"\$\{\w+:-v?\d+\.\d+.*\}$|v?\d+\.\d+", tag)


@each_image
def test_images_end_as_somebody(dockerfile: Path) -> None:
    """The last user of every image is not root, so a plain `docker run` is safe, too."""
    assert instructions(dockerfile, "USER")[-1] not in ("0", "root")


@each_image
def test_images_are_made_of_known_things(dockerfile: Path) -> None:
    """Bases have a version, files come from the checkout only, and no secret is built in."""
    arguments = dict(argument.partition("=")[::2] for argument in instructions(dockerfile, "ARG"))
    for base in instructions(dockerfile, "FROM"):
        name = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], base.split(" AS ")[0])
        assert re.search(r":[\w.-]*\d", name), name
    assert not instructions(dockerfile, "ADD")
    secrets = re.compile(r"TOKEN|PASSWORD|SECRET", re.IGNORECASE)
    assert not [line for kind in ("ARG", "ENV") for line in instructions(dockerfile, kind) if secrets.search(line)]


def test_build_context_is_an_allow_list() -> None:
    """Only named files get into an image: for example neither .git nor .env."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    chosen = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in chosen)
    assert not chosen & {".", ".git", ".env", "tests"}
