"""How an output was made: command, seed, package versions, source revision. No clock time, no machine's paths."""

import functools
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from pathlib import Path

SCHEMA_VERSION = 1
PACKAGES = (
    "numpy",
    "pandas",
    "scipy",
    "simpy",
    "pyarrow",
    "torch",
    "matplotlib",
    "scikit-learn",
    "transformers",
    "numba",
)


ROOT = Path(__file__).resolve().parents[2]  # the folder of the stages
FORCE = "--force"  # is no part of how an output is made
_inputs: dict[str, str] = {}  # what the running command reads, as `note_inputs` was told


def note_inputs(digests: dict[str, str]) -> None:
    """Let `provenance` state from here on what the running command reads: {name: digest}, empty for nothing."""
    _inputs.clear()
    _inputs.update(digests)


def provenance(seed: int | None = None, command: list[str] | None = None) -> dict:
    """Return the dictionary that every output carries so that it can be made again.

    `command` is an argument vector; None takes the running one. Absolute paths in it are shortened to their
    last part, because a machine's folders say nothing to another reader. It holds `inputs` where they were noted.
    """
    made = {
        "command": shortened(without_options(command if command is not None else running_command(), ())),
        "seed": seed,
        "python": platform.python_version(),
        "packages": dict(packages()),
        "source_revision": source_revision(),
    }
    return {**made, "inputs": dict(_inputs)} if _inputs else made


def without_options(command: list[str], options: tuple[str, ...], flags: tuple[str, ...] = ()) -> list[str]:
    """Return a command without some options and their values (`--x V`, `--x=V`), and without flags and `--force`."""
    kept, skipping = [], False
    for word in command:
        if not skipping and word.partition("=")[0] not in (FORCE, *flags, *options):
            kept.append(word)
        skipping = not skipping and word in options
    return kept


def running_command() -> list[str]:
    """Return the running command as `python -m stage ...` where it is one of the stages.

    That is how a checkout runs it, whoever called it so; an installation has its stages in `moe_replay`.
    """
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        stage = program.parent.name
        return ["python", "-m", stage if is_checkout() else f"moe_replay.{stage}", *sys.argv[1:]]
    return [program.name, *sys.argv[1:]]


def shortened(command: list[str]) -> str:
    """Return a command line in which `/a/b/c` reads `.../c`, also behind `--option=`."""
    return shlex.join(short_path(word) for word in command)


def short_path(word: str) -> str:
    """Return `.../c` for `/a/b/c` and `--x=.../c` for `--x=/a/b/c`; anything else as it is."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return option + equals + short_path(value)
    return f".../{Path(word).name}" if word.startswith("/") else word


@functools.cache
def packages() -> dict[str, str]:
    """Return the versions of the packages that are installed, looked up once per process."""
    return {name: version for name in PACKAGES if (version := installed(name))}


def installed(package: str) -> str | None:
    """Return the installed version of a package, None where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_checkout() -> bool:
    """Say whether this runs from a checkout (or a link to one), where the stages are beside moe_replay.py."""
    return (ROOT / "moe_replay.py").is_file()


@functools.cache
def source_revision() -> str:
    """Return the commit of the source tree, with `-dirty` if it was changed; `unknown` outside a checkout.

    It is asked for once per process, since what runs is what was there when it began. An installation below another
    checkout is none of its commits.
    """
    if not is_checkout():
        return "unknown"

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
