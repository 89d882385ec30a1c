"""What is published: the modules, that they are typed, and the licence."""

import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "sdk/python"


def test_the_wheel_holds_the_modules_their_types_and_the_licence(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(PACKAGE)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [license_name] = [name for name in names if name.endswith("LICENSE")]
        assert archive.read(license_name) == (ROOT / "LICENSE").read_bytes()
    modules = {f"relaytrace/{path.name}" for path in (PACKAGE / "src/relaytrace").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == {*modules, "relaytrace/py.typed"}
