"""Where a program's cycles go: exact cycles, stalls by cause, utilization and stream bytes of every layer, without running it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from golden.clock import ClockTransport, LayerRecord
from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.packets import HEADER_BYTES, STATUS_BYTES, Opcode
from shiftforge.program import Program
from sim.backends import stall_patterns
from sw_driver.accelerator import Accelerator
from sw_driver.layout import storage_dtype
from sw_driver.stream import Send


@dataclass(frozen=True)
class LayerProfile:
    """One layer in one run of a program.

    Parameters
    ----------
    layer : str
    runs : int
        LAYER packets.
    lead : int
        Cycles before it in which no layer runs: its packets are still coming.
    cycles : int
        From its start to its last result, loads in between included.
    slots : int
        Cycles in which the array takes products.
    stall_load, stall_drain : int
        Cycles between its own packets in which no layer runs; cycles in which a tile waits for a drain buffer or its banks.
    stall_output : int
        Cycles in which the sink did not take a beat that was offered. They may fall together with others.
    macs : int
        Products that the network asks for: no padding, no other group's, each term of a sum counted.
    bytes_in, bytes_out : int
        On the streams, headers and padding included: what it alone needs (its input if it comes from the host, weights that are
        loaded for it, descriptors), and its results.
    """

    layer: str
    runs: int = 0
    lead: int = 0
    cycles: int = 0
    slots: int = 0
    stall_load: int = 0
    stall_drain: int = 0
    stall_output: int = 0
    macs: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def rest(self) -> int:
        """Cycles that are neither products nor stalls: the pipeline fills and empties, and banked sums are read out."""
        return self.cycles - self.slots - self.stall_load - self.stall_drain

    def utilization(self, config: Config) -> float:
        """Useful products per cycle and element, 0..1."""
        return self.macs / (self.cycles * config.rows * config.cols) if self.cycles else 0.0


@dataclass(frozen=True)
class Profile:
    """A run of a program.

    Parameters
    ----------
    batch : int
    cycles : int
        From the first beat in to the last beat out, as `Accelerator.last_cycles` counts them.
    layers : tuple of LayerProfile
        In the order in which they first run.
    setup_bytes : int
        Stream bytes that belong to no layer: configuration, constants that are loaded once, status requests.
    status_bytes : int
        Bytes of status replies.
    """

    batch: int
    cycles: int
    layers: tuple[LayerProfile, ...]
    setup_bytes: int
    status_bytes: int

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def tail(self) -> int:
        """Cycles after the last layer: the status reply."""
        return self.cycles - sum(layer.lead + layer.cycles for layer in self.layers)

    def utilization(self, config: Config) -> float:
        """Of the whole run, loading included."""
        return self.macs / (self.cycles * config.rows * config.cols)


def profile(program: Program, batch: int = 1, *, stalls: int | None = None) -> Profile:
    """The cycles of one run of a batch, from a reset machine; equal to the gateware's, for any data.

    Parameters
    ----------
    batch : int
        Examples, at least 1.
    stalls : int or None
        Seed of random pauses on both streams, as for `sim.backends.open_transport`.

    Raises
    ------
    InputError
        When the batch is no batch.
    NotBuiltError
        When the machine of this version does not run the program.
    """
    if batch < 1:
        raise InputError(f"the batch must be at least 1, not {batch!r}")
    config, recipe = program.config, program.recipe
    input_valid, output_ready = stall_patterns(stalls)
    clock = ClockTransport(config, input_valid=input_valid, output_ready=output_ready)
    accelerator, sent = Accelerator(clock, config), _Sent(config)
    accelerator.observe = sent.take
    accelerator.run_codes(program, np.zeros((batch, recipe.features), storage_dtype(config.activation)))
    macs = {line.name: line.macs * line.pixels * batch for line in program.report}
    return Profile(
        batch,
        accelerator.last_cycles,
        tuple(_layers(sent, clock.layers, macs)),
        sent.setup_bytes,
        sent.status_bytes,
    )


def describe(program: Program, profile: Profile) -> dict[str, object]:
    """A profile with JSON's types, and the memory marks of its program."""
    config, marks = program.config, program.marks
    return {
        "name": program.name,
        "batch": profile.batch,
        "cycles": profile.cycles,
        "macs": profile.macs,
        "utilization": profile.utilization(config),
        "tail_cycles": profile.tail,
        "setup_bytes": profile.setup_bytes,
        "status_bytes": profile.status_bytes,
        "marks": {
            "activation_words": [marks.activation_words, config.activation_words],
            "weight_words": [marks.weight_words, config.weight_words],
            "parameter_words": [marks.parameter_words, config.parameter_words],
        },
        "layers": [
            {
                "layer": layer.layer,
                "packets": layer.runs,
                "cycles": layer.cycles,
                "slots": layer.slots,
                "stall_drain": layer.stall_drain,
                "stall_load": layer.stall_load,
                "stall_output": layer.stall_output,
                "rest": layer.rest,
                "lead": layer.lead,
                "macs": layer.macs,
                "utilization": layer.utilization(config),
                "bytes_in": layer.bytes_in,
                "bytes_out": layer.bytes_out,
            }
            for layer in profile.layers
        ],
    }


class _Sent:
    """What the driver sent, as `Accelerator.observe` sees it.

    Members
    -------
    runs : list of str
        The layer of every LAYER packet.
    bytes_in : Counter
        By layer.
    """

    def __init__(self, config: Config) -> None:
        self.runs: list[str] = []
        self.bytes_in: Counter[str] = Counter()
        self.setup_bytes = self.status_bytes = 0
        self._beat = config.stream_bits // 8

    def take(self, send: Send) -> None:
        size = self._size(len(send.payload))
        if send.layer:
            self.bytes_in[send.layer] += size
        else:
            self.setup_bytes += size
        if send.opcode == Opcode.LAYER:
            self.runs.append(send.layer)
        elif send.opcode == Opcode.STATUS:
            self.status_bytes += self._size(STATUS_BYTES)

    def _size(self, payload: int) -> int:
        return HEADER_BYTES + ceil_div(payload, self._beat) * self._beat


def _layers(sent: _Sent, records: Sequence[LayerRecord], macs: dict[str, int]) -> Iterator[LayerProfile]:
    sums = {name: Counter[str]() for name in sent.runs}
    idle_from, before = 0, ""
    for name, record in zip(sent.runs, records, strict=True):
        time, total = record.time, sums[name]
        gap = time.start - idle_from
        inside = gap if name == before else 0
        total.update(
            runs=1,
            lead=gap - inside,
            cycles=inside + time.busy,
            slots=time.slots,
            stall_load=inside,
            stall_drain=time.stall_drain,
            stall_output=time.stall_output,
            bytes_out=record.answer_bytes,
        )
        idle_from, before = time.done + 1, name
    for name, total in sums.items():
        yield LayerProfile(name, **total, macs=macs.get(name, 0), bytes_in=sent.bytes_in[name])
