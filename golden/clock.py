"""The machine's clock alone: every packet is timed as the emulator times it, and nothing is computed.

For predictions of whole networks: cycles do not depend on data, so results may be zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from golden.cycles import LayerTime
from golden.decoder import Layer, Outcome
from golden.emulator import Emulator, EmulatorTransport
from shiftforge.config import Config
from shiftforge.packets import Opcode
from shiftforge.transport import Pattern


class _Idle(Emulator):
    """An emulator whose memories stay empty and whose results are zeros of the right length."""

    def execute(self, outcome: Outcome, counters: Mapping[str, int]) -> bytes | None:
        got = outcome.received
        if outcome.layer is None and got.header.opcode != Opcode.STATUS:
            return None
        return super().execute(outcome, counters)

    def _run(self, layer: Layer, sequence: int) -> bytes | None:
        if not layer["to_stream"]:
            return None
        return self._result(layer, sequence, bytes(layer.steps * self.config.lanes * self.config.output.bytes))


@dataclass(frozen=True)
class LayerRecord:
    """One LAYER packet that ran: when, and the bytes of its answer (0 for a layer that stays on chip)."""

    time: LayerTime
    answer_bytes: int

    @property
    def layer(self) -> Layer:
        """Its descriptor."""
        return self.time.layer


class ClockTransport(EmulatorTransport):
    """`shiftforge.transport.Transport` that takes the cycles of the machine and answers with zeros.

    Members
    -------
    layers : list of LayerRecord
        Every layer that ran since the reset, in order.
    """

    def __init__(self, config: Config, *, input_valid: Pattern = None, output_ready: Pattern = None) -> None:
        super().__init__(config, input_valid=input_valid, output_ready=output_ready)
        self.name = "clock"
        self.emulator = _Idle(config)

    def reset(self) -> None:
        """As `EmulatorTransport.reset`."""
        super().reset()
        self.layers: list[LayerRecord] = []

    def _take(self, data: bytes, beats: int) -> Outcome:
        answers = len(self._answers)
        outcome = super()._take(data, beats)
        if outcome.layer is not None:
            answer = self._answers[-1][1] if len(self._answers) > answers else b""
            self.layers.append(LayerRecord(self.clock.layers[-1], len(answer)))
        return outcome
