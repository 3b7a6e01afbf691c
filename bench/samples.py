"""Which designs `bench.calibrate` synthesizes: units over all formats and widths, shells of cores, and whole machines to check."""

from collections.abc import Iterator
from itertools import cycle

from shiftforge.config import ALIGNED_FORMATS, BANKED_FORMATS, Config, from_dict
from shiftforge.formats import FORMATS

_ROWS = (4, 8, 2, 16, 5, 1, 12, 3)
_MAX_K = (64, 1024, 200, 4096, 16, 9000, 512)


def machine(
    rows: int,
    cols: int,
    activation: str,
    bits: int,
    accumulator: str,
    *,
    max_k: int = 256,
    output: str | None = None,
    mask: bool = False,
    stream_bits: int = 64,
    residual: bool = False,
    max_pool: bool = False,
    **memory: int,
) -> Config:
    """A configuration in one line."""
    array = {"rows": rows, "cols": cols, "activation": activation, "output": output or activation}
    array |= {"weight_bits": bits, "max_k": max_k, "accumulator": accumulator, "mask": mask}
    array |= {"residual": residual, "max_pool": max_pool}
    return from_dict({"array": array, "memory": memory, "interface": {"stream_bits": stream_bits}})


def units() -> Iterator[Config]:
    """Two configurations for each pair of format and accumulator and each width of weights: every unit is measured from them."""
    rows, lengths, outputs = cycle(_ROWS), cycle(_MAX_K), cycle(FORMATS)
    for kinds, accumulator in ((ALIGNED_FORMATS, "aligned"), (BANKED_FORMATS, "banked")):
        for index, activation in enumerate(kinds):
            for bits in (2, 3, 4):
                for again in range(2):
                    yield machine(
                        next(rows),
                        4,
                        activation,
                        bits,
                        accumulator,
                        max_k=next(lengths),
                        output=next(outputs),
                        mask=(index + bits + again) % 4 == 0,
                    )


MEMORIES = (
    (64, 64),
    (128, 64),
    (128, 256),
    (256, 12),
    (512, 8),
    (512, 16),
    (512, 24),
    (512, 32),
    (512, 48),
    (1024, 16),
    (1024, 32),
    (2048, 16),
    (2048, 24),
    (4096, 16),
    (4096, 48),
    (8192, 8),
    (16384, 16),
)
"""(words, bits)."""


def lanes() -> Iterator[Config]:
    """Machines whose lanes add residuals, one of each activation format."""
    yield machine(4, 4, "fp16", 3, "aligned", residual=True)
    yield machine(4, 4, "int8", 2, "aligned", residual=True, output="fp32")
    yield machine(4, 4, "fp8_e4m3", 3, "banked", residual=True, output="fp16", max_k=1024)
    yield machine(4, 4, "bf16", 3, "banked", residual=True)
    yield machine(4, 4, "int16", 4, "aligned", residual=True, output="int8")
    yield machine(4, 4, "fp8_e5m2", 2, "aligned", residual=True, max_k=64)
    yield machine(4, 4, "fp32", 3, "banked", residual=True)


def cores() -> Iterator[Config]:
    """Machines of which everything but the units and memories is measured."""
    yield machine(1, 1, "int8", 2, "aligned")
    yield machine(16, 16, "int8", 2, "aligned", max_k=1024)
    yield machine(4, 8, "fp16", 3, "banked", stream_bits=128)
    yield machine(16, 8, "fp8_e4m3", 4, "banked", output="fp16", stream_bits=32, parameter_words=1024)
    yield machine(4, 16, "int8", 4, "aligned", output="int16", max_k=1000, mask=True)
    yield machine(8, 8, "fp32", 2, "banked", stream_bits=32)
    yield machine(16, 4, "int8", 3, "aligned", max_k=2048)
    yield machine(3, 5, "int16", 4, "aligned", output="fp32")
    yield machine(8, 4, "bf16", 4, "banked", output="fp32")
    yield machine(2, 2, "int8", 2, "aligned", stream_bits=32)
    yield machine(5, 3, "fp8_e5m2", 2, "banked", stream_bits=128, activation_words=4096)
    yield machine(4, 4, "fp16", 3, "aligned", max_k=64)
    yield machine(8, 8, "fp8_e4m3", 3, "aligned", mask=True)
    yield machine(4, 4, "int8", 3, "aligned", residual=True)
    yield machine(3, 5, "fp8_e4m3", 3, "banked", max_pool=True)
    yield machine(8, 8, "int8", 2, "aligned", residual=True, max_pool=True, activation_pages=4)
    yield machine(2, 4, "fp16", 3, "aligned", activation_pages=16)


def wholes() -> Iterator[Config]:
    """Whole machines that nothing is fitted to."""
    yield machine(4, 4, "fp16", 3, "aligned", max_k=128)
    yield machine(2, 3, "int8", 2, "aligned", max_k=100, output="int16")
    yield machine(1, 4, "int16", 3, "aligned", output="int8", max_k=40)
    yield machine(6, 4, "fp16", 3, "banked", max_k=400, stream_bits=32)
    yield machine(3, 4, "bf16", 3, "banked", output="fp32", max_k=150)
    yield machine(5, 5, "fp8_e4m3", 3, "aligned", mask=True, max_k=1000, activation_words=2048)
    yield machine(2, 4, "fp32", 2, "banked", max_k=600, stream_bits=128)
    yield machine(4, 6, "fp8_e5m2", 4, "banked", output="fp16", max_k=77, weight_words=4096)
    yield machine(8, 8, "int8", 2, "aligned", max_k=300)
    yield machine(4, 4, "int8", 3, "aligned", residual=True, max_pool=True, activation_pages=4, output="int16")
