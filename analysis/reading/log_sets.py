"""Where the inputs of a table are: one set per device and data set, with the runs that were simulated for it."""

from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.errors import InputError

BASE_TRACE = "base.trace.parquet"
WIDE_TRACE = "wide.trace.parquet"
EXECUTED_TRACE = "executed.trace.parquet"  # of runs on layers of a published shape
QUALITY = "quality.csv"
COSTS = "costs.parquet"
EXECUTED = "executed"
RULES = "rules"  # traces recorded under rules for K: NAME.trace.parquet
SERVING = "serving"  # executed runs of such traces: NAME/
OPERATING_POINTS = "dynamic_k.parquet"
OPERATING_TIMES = "dynamic_k_times.csv"
VISION = "vision.csv"
VISION_EPOCHS = "vision_epochs.csv"
VISION_TIMES = "vision_times.csv"
MEMORY = "memory.csv"
LANGUAGE = "language.csv"
MEMORY_EXECUTED = "memory-executed"  # executed runs with expert memory, and with all experts resident
MEMORY_SIMULATED = "memory-simulated"  # the same runs, simulated: named apart, so that they are not taken for logs
SWAP_QUALITY = "swap-quality.csv"
SKIP_EXCHANGE = "skip-exchange.csv"
SWAP_PLANS = "swap-plans.csv"  # of `simulate plan`, from swap-profile.csv
SWAP_VERIFIED = "swap-verified.csv"  # those plans, measured
STEPWISE_TRACE = "language-stepwise.trace.parquet"  # of those runs
LANGUAGE_TRACES = ("language-prefill.trace.parquet", "language-decode.trace.parquet")
LAYER_COSTS, LAYER_TIMES = ".costs.parquet", ".times.parquet"  # SHAPE.costs.parquet: of `collect layer-costs`
LINK = "link.parquet"
PORTS = "ports.parquet"  # exchanges between devices: of `collect ports`
PORTS_PREDICTED = "all-to-all.parquet"  # the same by the port model
STEP_ORDERS = ".orders.csv"  # STEP.orders.csv: orders of a training iteration's operations
COMPILED_STEPS = ".compiled.csv"  # STEP.compiled.csv: ways of compiling it
TRAINING = "training"  # loads while a model trained: NAME.loads.parquet
VIDEO = "video"  # traces of clips: CLIP.trace.parquet
KNOWN = (
    BASE_TRACE, WIDE_TRACE, QUALITY, COSTS, EXECUTED, OPERATING_POINTS, OPERATING_TIMES, VISION, MEMORY,
    *LANGUAGE_TRACES, LANGUAGE, VIDEO, MEMORY_EXECUTED, SWAP_QUALITY, SKIP_EXCHANGE, LINK, PORTS,
)  # fmt: skip


@dataclass(frozen=True)
class LogSet:
    """The logs of one device and data set in `folder`; `simulated` is the folder of its simulated runs, or None."""

    device: str
    data: str
    folder: Path
    simulated: Path | None

    @property
    def name(self) -> str:
        """`device/data`, as the column `set` of every table has it."""
        return f"{self.device}/{self.data}"

    @property
    def of_images(self) -> bool:
        """Whether it holds anything beside logs of a language model or of layers: tables want every file of a set."""
        of_text = (*LANGUAGE_TRACES, LANGUAGE, MEMORY_EXECUTED, SWAP_QUALITY, SKIP_EXCHANGE, LINK, PORTS)
        return any((self.folder / name).exists() for name in KNOWN if name not in of_text)

    @property
    def shapes(self) -> list[str]:
        """The layer shapes that were timed, sorted."""
        return sorted(path.name.removesuffix(LAYER_TIMES) for path in self.folder.glob(f"*{LAYER_TIMES}"))

    @property
    def ordered_steps(self) -> list[str]:
        """The training iterations whose orders were measured, sorted."""
        return sorted(path.name.removesuffix(STEP_ORDERS) for path in self.folder.glob(f"*{STEP_ORDERS}"))

    @property
    def compiled_steps(self) -> list[str]:
        """The training iterations that were compiled, sorted."""
        return sorted(path.name.removesuffix(COMPILED_STEPS) for path in self.folder.glob(f"*{COMPILED_STEPS}"))

    @property
    def of_shape(self) -> bool:
        """Whether its runs were executed on layers of a published shape: there is no model, and no quality."""
        return (self.folder / EXECUTED_TRACE).exists()

    @property
    def trace_name(self) -> str:
        """The file of the trace that the executed runs replay."""
        return EXECUTED_TRACE if self.of_shape else WIDE_TRACE

    @property
    def executed(self) -> Path:
        """The folder of executed runs."""
        return self.folder / EXECUTED

    def run_names(self) -> list[str]:
        """Return the names of all runs, executed or simulated, complete or not, sorted."""
        folders = [folder for folder in (self.executed, self.simulated) if folder is not None and folder.is_dir()]
        files = (path.name for folder in folders for path in folder.glob("*.parquet"))
        return sorted({name.removesuffix(f".{kind}.parquet") for name in files for kind in ("passes", "batches")
                       if name.endswith(f".{kind}.parquet")})  # fmt: skip


def find_log_sets(logs: Path, simulated: Path | None) -> list[LogSet]:
    """Return every set under `LOGS/<device>/<data>`, sorted; InputError if there is none."""
    if not logs.is_dir():
        raise InputError(f"{logs}: no such folder of logs")
    folders = sorted(path for path in logs.glob("*/*") if path.is_dir() and holds_logs(path))
    if not folders:
        raise InputError(f"{logs}: holds no logs; expected DEVICE/DATA folders with any of {', '.join(KNOWN)}")
    return [
        LogSet(path.parent.name, path.name, path, simulated and simulated / path.parent.name / path.name)
        for path in folders
    ]


def holds_logs(folder: Path) -> bool:
    """Say whether a folder holds any file of a set."""
    return any((folder / name).exists() for name in KNOWN) or any(
        any(folder.glob(f"*{ending}")) for ending in (LAYER_TIMES, STEP_ORDERS, COMPILED_STEPS)
    )
