"""Run a unit's bench of `sim.units` on other configurations."""

from pathlib import Path

from shiftforge.config import ALIGNED_FORMATS, Config, from_dict
from sim.units import UNITS, run_unit


def a_config(
    rows: int,
    cols: int,
    activation: str = "int8",
    output: str = "int8",
    *,
    weight_bits: int = 3,
    max_k: int = 21,
    stream_bits: int = 64,
    words: int = 0,
    mask: bool = False,
    accumulator: str = "",
    pages: int = 2,
    residual: bool = False,
    max_pool: bool = False,
) -> Config:
    """A configuration; `words` is the depth of all memories, 0 the default depths; aligned unless told, where that is built."""
    array: dict[str, object] = {
        "rows": rows,
        "cols": cols,
        "activation": activation,
        "output": output,
        "weight_bits": weight_bits,
    }
    memory = dict.fromkeys(("activation_words", "weight_words", "parameter_words"), words) if words else {}
    array["accumulator"] = accumulator or ("aligned" if activation in ALIGNED_FORMATS else "banked")
    array |= {"residual": residual, "max_pool": max_pool}
    memory["activation_pages"] = pages
    return from_dict(
        {"array": {**array, "max_k": max_k, "mask": mask}, "memory": memory, "interface": {"stream_bits": stream_bits}},
    )


def check(name: str, folder: Path, config: Config | None = None, *, seed: int = 1) -> None:
    """The bench of that name must hold, on the unit's own configuration unless told."""
    run_unit(UNITS[name], folder, config=config, seed=seed)


def name_of(config: Config) -> str:
    """A test's name for a configuration."""
    return f"{config.rows}x{config.cols}-{config.activation.name}-{config.output.name}-{config.stream_bits}"
