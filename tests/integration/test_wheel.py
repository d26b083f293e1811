"""A wheel holds what a plant without internet needs: screens, plant, the page of the twin."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "workshop_brain"
SCREENS = PACKAGE / "web" / "static"
SETUPTOOLS = 77  # as pyproject.toml asks


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files of a wheel that is built from a copy, as ``make wheel`` builds it from the checkout."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("the module build is missing: pip install -e '.[dev]'")
    if not (SCREENS / "index.html").exists():
        pytest.skip("the screens are not built: make setup")
    copy = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(copy / "out"), str(copy)]
    if int(version("setuptools").split(".")[0]) >= SETUPTOOLS:
        command.append("--no-isolation")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = (copy / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_every_file_of_the_built_screens(names: set[str]) -> None:
    built = {p.relative_to(PACKAGE.parent).as_posix() for p in SCREENS.rglob("*") if p.is_file()}
    assert "workshop_brain/web/static/index.html" in built
    assert built - names == set()


def test_a_wheel_holds_every_file_that_the_package_reads(names: set[str]) -> None:
    kinds = (".toml", ".html", ".ini", ".mako", ".typed", ".sql", ".json", ".csv")
    read = {
        p.relative_to(PACKAGE.parent).as_posix()
        for p in PACKAGE.rglob("*")
        if p.suffix in kinds and p.is_file()
    }
    assert "workshop_brain/plants/transmission.toml" in read
    assert "workshop_brain/plants/balance/asm1.csv" in read
    assert "workshop_brain/twin/control.html" in read
    assert read - names == set()
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
