"""The two wheels, built from this tree without a network: what is in them, and that the client works by itself."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MOST_SERVER_BYTES = 10_000_000
"""The model is 8.6 million of them; the weights would be as many again."""

RESTORE = """
import sys
sys.path[:] = [path for path in sys.path if not path.endswith("-packages")] + sys.argv[1:3]
import promptir_client
with promptir_client.Client(sys.argv[3]) as client:
    restored = client.restore(sys.argv[4])
assert not {"server", "models", "numpy", "cv2"} & set(sys.modules), "the client imports what it does not ask for"
print(promptir_client.__file__, restored.media_type, len(restored.data))
"""


def wheel(project: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    built = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(PROJECT, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(PROJECT / "promptir_client", tmp_path_factory.mktemp("client"))


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
        return archive.read(member).decode()


def test_the_server_wheel_has_the_server_and_its_model_and_nothing_to_train(server_wheel: Path) -> None:
    files = names(server_wheel)
    assert {"server/app.py", "server/web/index.html", "models/artifacts/promptnaf/model.onnx"} <= set(files)
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == {"models", "export", "server"}
    assert not [name for name in files if name.startswith("models/training") or name.endswith(".safetensors")]
    assert server_wheel.stat().st_size < MOST_SERVER_BYTES


def test_every_command_of_the_server_wheel_is_in_it(server_wheel: Path) -> None:
    lines = metadata(server_wheel, "entry_points.txt").splitlines()
    modules = [line.split(" = ")[1].split(":")[0].replace(".", "/") for line in lines if " = " in line]
    assert modules
    files = names(server_wheel)
    for module in modules:
        assert f"{module}.py" in files or f"{module}/__init__.py" in files, module


def test_no_file_of_the_server_wheel_imports_training(server_wheel: Path) -> None:
    with zipfile.ZipFile(server_wheel) as archive:
        importing = [
            name for name in archive.namelist() if name.endswith(".py") and b"models.training" in archive.read(name)
        ]
    assert importing == ["models/train_command.py"]  # it says what is missing


def test_the_client_wheel_has_the_package_and_asks_for_httpx_alone(client_wheel: Path) -> None:
    package = PROJECT / "promptir_client"
    own = {f"promptir_client/{path.relative_to(package)}" for path in package.rglob("*.py")}
    assert {name for name in names(client_wheel) if ".dist-info/" not in name} == own | {"promptir_client/py.typed"}
    required = [line for line in metadata(client_wheel, "METADATA").splitlines() if line.startswith("Requires-Dist")]
    assert {line.split()[1].split(">")[0] for line in required} == {"anyio", "httpx", "sniffio"}


def test_the_client_wheel_alone_restores_a_photo(client_wheel: Path, start: Any, png: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(client_wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "photo.png").write_bytes(png(48, 64))
    server = start().until_ready()
    arguments = [tmp_path / "installed", sysconfig.get_path("purelib"), server.url, tmp_path / "photo.png"]
    # -I and -S: neither the checkout nor what is installed for development is on the path.
    command = [sys.executable, "-I", "-S", "-c", RESTORE, *map(str, arguments)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    file, media_type, size = ran.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert media_type == "image/png"
    assert int(size) > 0
