"""What pyproject.toml cannot say: which packages `moe_replay` has.

Every folder of code in a checkout is one, under that name, and moe_replay.py is the `__init__` of the whole. An
editable install puts the checkout on Python's path, where moe_replay.py finds the folders by itself.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).parent
TOP = "moe_replay"
ROOMS = ("traces", "collect", "simulate", "analysis", "figures")
FOLDERS = sorted(
    path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
)


class BuildRooms(build_py):
    """Takes moe_replay.py as the package's `__init__`; there is no folder of that name in the sources."""

    def check_package(self, package: str, package_dir: str) -> str | None:
        """Return the file that makes a folder a package, None for the top, which has no folder."""
        return None if package == TOP else super().check_package(package, package_dir)

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) of a package's modules."""
        if package == TOP:
            return [(TOP, "__init__", f"{TOP}.py")]
        return super().find_package_modules(package, package_dir)

    def run(self) -> None:
        """Build the package, and mark it as one with type hints (PEP 561)."""
        super().run()
        if not self.editable_mode:
            self.marker.touch()

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return the files that are built."""
        return [*super().get_outputs(include_bytecode), str(self.marker)]

    @property
    def marker(self) -> Path:
        """The file that says so to type checkers; the sources have no folder for it."""
        return Path(self.build_lib, TOP, "py.typed")


class EditableRooms(editable_wheel):
    """Installs moe_replay.py alone, as the module that it is in a checkout."""

    def finalize_options(self) -> None:
        """Let the wheel point here, as it does where all packages are below one folder."""
        self.distribution.packages = []
        self.distribution.py_modules = [TOP]
        self.distribution.package_dir = {"": "."}
        super().finalize_options()


setup(
    packages=[TOP, *(f"{TOP}.{folder.replace('/', '.')}" for folder in FOLDERS)],
    package_dir={f"{TOP}.{room}": room for room in ROOMS},
    # What `--costs NAME`, `--link NAME` and `--links NAME` find, the parts of a report's page,
    # and the executed runs that the live page shows.
    package_data={
        f"{TOP}.figures": ["shipped/fidelity*.csv"],
        f"{TOP}.figures.report": ["*.html", "*.js"],
        f"{TOP}.traces": [
            *(f"data/*/shapes/{name}" for name in ("*.costs.parquet", "*.served.parquet", "link.parquet")),
            "clusters/machines/*.toml",
        ],
    },
    cmdclass={"build_py": BuildRooms, "editable_wheel": EditableRooms},
)
