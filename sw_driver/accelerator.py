"""The accelerator as a Python object: matrix products and programs over any `Transport`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftforge.config import Config
from shiftforge.errors import DeviceError, InputError
from shiftforge.packets import HEADER_BYTES, Header, HeaderFlag, Opcode, decode_status, packet
from shiftforge.program import Program, require_config
from shiftforge.recipe import HostStep
from shiftforge.registers import ERROR_TEXT, Error, Flag
from shiftforge.transport import ProgressCallback, TransferResult, Transport
from sw_driver import layout, stream
from sw_driver.compiler.emit import StreamLayer, lower
from sw_driver.compiler.reading import Reading
from sw_driver.host import Host
from sw_driver.layout import Codes
from sw_driver.stream import Answer, Send
from sw_driver.values import as_float64, decode, encode

Overflow = Literal["inf", "saturate"]
Put = Callable[[Answer, bytes], None]

TRANSFER_BYTES = 64 << 20
"""A transfer ends after the chunk with which its packets reach this many bytes, so that a large batch needs no more memory."""
TRANSFER_PACKETS = 1 << 14
"""And after this many packets, so that sequence numbers (16 bits) are unique within it."""

_COUNTERS = ("cycles", "busy_cycles", "slots", "stall_drain", "stall_input", "stall_output", "packets")


class Accelerator:
    """One device of one configuration.

    Every run configures the device and loads all that it needs, so runs of any programs and sizes may follow one another, also
    after a failed one.

    Parameters
    ----------
    transport : Transport
    config : Config
        What the device was generated from; its hash is compared with the device's own.

    Members
    -------
    last_status : dict of str to int
        The status reply that ended the last run (see `shiftforge.packets.STATUS_FIELDS`).
    last_result : TransferResult or None
        The last transfer of the last run.
    last_cycles : int
        Cycles of all transfers of the last run; 0 where the transport has no clock.
    counters : dict of str to int
        What the counters of the status reply advanced by during the last run.
    observe : callable or None
        Called with every packet before it is sent.

    Raises
    ------
    InputError
        When the device reports another configuration hash.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self.transport = transport
        self.config = config
        self.last_status: dict[str, int] = {}
        self.last_result: TransferResult | None = None
        self.last_cycles = 0
        self.counters: dict[str, int] = {}
        self.observe: Callable[[Send], None] | None = None
        self._sequence = 0
        self._host_flags = Flag(0)
        self._check_hardware()

    @property
    def flags(self) -> Flag:
        """NV, OF and NX of the last run, those of the host's own roundings of spilled tensors among them."""
        return Flag(self.last_status.get("flags", 0)) | self._host_flags

    # ---- programs

    def encode_input(self, program: Program, x: ArrayLike) -> Codes:
        """Codes (batch, features) of a batch of values, each divided by the input's scale and rounded once.

        Parameters
        ----------
        x : real array (batch, *program.input_shape), or (batch, features)

        Raises
        ------
        InputError
            For another shape, or numbers that are not real.
        """
        values = as_float64(x, "the input")
        scaled = program.graph.input.arrange(values) / program.input_scale
        codes = encode(self.config.activation, scaled, saturate=program.overflow == "saturate")
        return codes.reshape(len(codes), program.graph.input.features)

    def run(self, program: Program, x: ArrayLike, *, progress: ProgressCallback | None = None) -> Codes:
        """Codes (batch, outputs) in the output format; `x` as in `encode_input`.

        Raises
        ------
        InputError
            When the program is for another configuration, or the input has another shape.
        DeviceError
            When the device refuses a packet, answers wrongly or does not answer.
        """
        require_config(program, self.config)
        return self.run_codes(program, self.encode_input(program, x), progress=progress)

    def run_codes(self, program: Program, x_codes: Codes, *, progress: ProgressCallback | None = None) -> Codes:
        """As `run`, from codes (batch, features) of the activation format."""
        require_config(program, self.config)
        self._check_operand("the input", x_codes, program.recipe.features)
        host = Host(self.config, program.graph, program.recipe, x_codes, saturate=program.overflow == "saturate")
        self._execute(self._phases(host), host.put, progress)
        self._host_flags = host.flags
        return host.output

    def _phases(self, host: Host) -> Iterator[Iterator[list[Send]]]:
        """The chunks of each phase; what the host does comes when all answers of the phases before are there."""
        for part in host.recipe.parts:
            if isinstance(part, HostStep):
                host.run(part)
                continue
            yield stream.batch(self.config, part, host.payload, host.batch)
            host.settle(part)

    def run_values(
        self, program: Program, x: ArrayLike, *, progress: ProgressCallback | None = None
    ) -> NDArray[np.float32]:
        """As `run`, but values: the codes widened exactly to float32 (times the output's scale, rounded once)."""
        return self.values(program, self.run(program, x, progress=progress))

    def values(self, program: Program, codes: Codes) -> NDArray[np.float32]:
        """The float32 values of output codes."""
        return (decode(self.config.output, codes) * program.output_scale).astype(np.float32)

    # ---- matrix products

    def gemm(
        self,
        x_codes: Codes,
        w_codes: NDArray[np.uint8],
        *,
        exponent_bias: int = 0,
        overflow: Overflow | None = None,
        progress: ProgressCallback | None = None,
    ) -> Codes:
        """The product of activation codes (M, K) and weight codes (K, N): each exact sum rounded once to the output format.

        Parameters
        ----------
        w_codes : uint8 array (K, N)
            With `Config.weights.mask` an element whose mask bit is set is a weight of zero.
        exponent_bias : int
            Every weight is multiplied by 2**exponent_bias, -128..127.
        overflow : str or None
            None for the configuration's.

        Raises
        ------
        InputError
            For other dtypes, shapes that do not fit, or K beyond `max_k`.
        DeviceError
            As `run`.
        """
        layer = self._gemm_layer(x_codes, w_codes, exponent_bias, overflow or self.config.overflow)
        recipe = lower(self.config, layer)
        host = Host(self.config, None, recipe, x_codes, saturate=layer.saturate)
        self._execute(iter([_gemm_chunks(self.config, host)]), host.put, progress)
        return host.output

    def _gemm_layer(self, x_codes: Codes, w_codes: NDArray[np.uint8], exponent_bias: int, overflow: str) -> StreamLayer:
        if overflow not in ("inf", "saturate"):
            raise InputError(f"overflow must be 'inf' or 'saturate', not {overflow!r}")
        if not -128 <= exponent_bias <= 127:
            raise InputError(f"exponent_bias must be -128..127, not {exponent_bias!r}")
        if w_codes.ndim != 2 or w_codes.dtype != np.uint8 or 0 in w_codes.shape:
            raise InputError(f"weights must be a uint8 matrix (K, N), not {w_codes.dtype} of shape {w_codes.shape}")
        bits = self.config.weights.element_bits
        if int(w_codes.max()) >> bits:
            index = tuple(int(i) for i in np.argwhere(w_codes >> bits)[0])
            raise InputError(f"weight code at {index} must have {bits} bits, not the value {int(w_codes[index])}")
        self._check_operand("the activations", x_codes, w_codes.shape[0])
        reading = Reading(channels=w_codes.shape[0])
        return StreamLayer("gemm", w_codes, reading, exponent_bias, saturate=overflow == "saturate")

    # ---- the device

    def _check_hardware(self) -> None:
        found = self.transport.hardware_hash()
        if found is not None and found != self.config.hash:
            raise InputError(
                f"the device behind the {self.transport.name} transport must have the configuration hash "
                f"{self.config.hash:#010x}, not {found:#010x}; generate it from this configuration"
            )

    def _check_operand(self, what: str, codes: Codes, k: int) -> None:
        dtype = layout.storage_dtype(self.config.activation)
        if codes.ndim != 2 or codes.dtype != dtype or codes.shape[1] != k:
            raise InputError(
                f"{what} must be codes of {self.config.activation.name}, {dtype} of shape (M, {k}), "
                f"not {codes.dtype} of shape {codes.shape}"
            )

    def _execute(self, phases: Iterator[Iterator[list[Send]]], put: Put, progress: ProgressCallback | None) -> None:
        """Send the packets of every phase in one transfer or several, and put the answers into their places.

        The first transfer clears the sticky state and configures; each ends with a status request, whose reply shows its errors.
        A phase's last transfer is over before the next phase is asked for its packets.
        """
        self._check_hardware()
        hello = [
            Send(Opcode.STATUS, 0, b"", "status request"),
            Send(Opcode.CONFIG, 0, self.config.hash.to_bytes(4, "little"), "configuration"),
        ]
        first: dict[str, int] = {}
        self.last_cycles, self.last_result, self.last_status = 0, None, {}
        self._host_flags = Flag(0)
        for chunks in phases:
            for sends in _transfers(chunks if first else chain([hello], chunks)):
                replies = self._transfer([*sends, Send(Opcode.STATUS, 0, b"", "status request")], put, progress)
                first = first or replies[0]
                self.last_status = replies[-1]
        self.counters = {name: (self.last_status.get(name, 0) - first.get(name, 0)) % (1 << 32) for name in _COUNTERS}

    def _transfer(self, sends: list[Send], put: Put, progress: ProgressCallback | None) -> list[dict[str, int]]:
        """One transfer; the status replies in it."""
        labels: dict[int, Send] = {}
        packets = []
        for send in sends:
            # The run's first packet clears the sticky state that an earlier run left; its reply is where counting begins.
            clear = send.opcode == Opcode.STATUS and not packets and self.last_result is None
            labels[self._sequence] = send
            if self.observe is not None:
                self.observe(send)
            flags = int(HeaderFlag.CLEAR) if clear else 0
            header = Header(send.opcode, self._sequence, send.address, len(send.payload), flags)
            packets.append(packet(header, send.payload, self.config.stream_bits))
            self._sequence = (self._sequence + 1) & 0xFFFF
        expected = sum(send.answer is not None or send.opcode == Opcode.STATUS for send in sends)
        try:
            result = self.transport.transfer(packets, expected, progress=progress)
        except DeviceError as error:
            self._explain(labels, error)
            raise
        self.last_result = result
        self.last_cycles += result.cycles
        replies, answers = _sorted_answers(result.packets, labels)
        if replies:
            self._check_errors(replies[-1], labels)
        if len(replies) + len(answers) != expected or not replies:
            raise DeviceError(
                f"the device must answer with {expected} packets, not {len(replies) + len(answers)} that belong to this transfer"
            )
        for send, payload in answers:
            assert send.answer is not None
            put(send.answer, payload)
        return replies

    def _explain(self, labels: dict[int, Send], error: DeviceError) -> None:
        """After a time-out, ask what the device thinks of it; returns when it has nothing to add."""
        sequence, self._sequence = self._sequence, (self._sequence + 1) & 0xFFFF
        ask = packet(Header(Opcode.STATUS, sequence, flags=int(HeaderFlag.CLEAR)), b"", self.config.stream_bits)
        question = {sequence: Send(Opcode.STATUS, 0, b"", "status request")}
        try:
            result = self.transport.transfer([ask], 1)
            replies, _ = _sorted_answers(result.packets, question)
        except (DeviceError, InputError):
            return
        if replies:
            self.last_status = replies[-1]
            self._check_errors(replies[-1], labels, error)

    def _check_errors(self, status: dict[str, int], labels: dict[int, Send], cause: DeviceError | None = None) -> None:
        if status["hash"] != self.config.hash:
            raise DeviceError(
                f"the device must have the configuration hash {self.config.hash:#010x}, not {status['hash']:#010x}"
            )
        errors = Error(status["errors"])
        if not errors:
            return
        texts = "; ".join(ERROR_TEXT[bit] for bit in Error if bit in errors)
        guilty = labels.get(status["error_sequence"])
        packet_name = f"packet {status['error_sequence']}" + (f" ({guilty.label})" if guilty else "")
        raise DeviceError(f"the device must accept every packet, and refused {packet_name}: {texts}") from cause


def _sorted_answers(
    packets: Iterable[bytes], labels: dict[int, Send]
) -> tuple[list[dict[str, int]], list[tuple[Send, bytes]]]:
    """The status replies and the results that answer the packets in `labels`; others (of a failed transfer) are left out.

    Raises
    ------
    DeviceError
        When a result has another length than its layer's, or no packet begins like one.
    """
    replies: list[dict[str, int]] = []
    answers: list[tuple[Send, bytes]] = []
    for data in packets:
        try:
            header = Header.decode(data)
        except InputError as error:
            raise DeviceError(f"the device must answer with whole packets: {error}") from None
        asked = labels.get(header.sequence)
        payload = data[HEADER_BYTES : HEADER_BYTES + header.length]
        if asked is None:
            continue
        if header.opcode == Opcode.STATUS_REPLY and asked.opcode == Opcode.STATUS:
            replies.append(decode_status(payload))
        elif header.opcode == Opcode.RESULT and asked.answer is not None:
            if len(payload) != asked.answer.length:
                raise DeviceError(
                    f"the result of {asked.label} must have {asked.answer.length} bytes, not {len(payload)}"
                )
            answers.append((asked, payload))
    return replies, answers


def _transfers(chunks: Iterable[list[Send]]) -> Iterator[list[Send]]:
    """Chunks gathered into transfers of bounded size; a chunk is never cut."""
    sends: list[Send] = []
    size = 0
    for chunk in chunks:
        sends += chunk
        size += sum(len(send.payload) for send in chunk)
        if size >= TRANSFER_BYTES or len(sends) >= TRANSFER_PACKETS:
            yield sends
            sends, size = [], 0
    if sends:
        yield sends


def _gemm_chunks(config: Config, host: Host) -> Iterator[list[Send]]:
    """The packets of a matrix product of any size.

    Weights that fit on chip are loaded once. Of those that do not, either the weights are loaded for each chunk of activations
    or the activations for each piece of weights, whichever moves fewer bytes.
    """
    (whole,), rows, k, n = host.recipe.phases, host.batch, host.recipe.features, host.recipe.outputs
    x_bytes = rows * layout.k_words(config, k) * config.activation_word_bits // 8
    w_bytes = layout.weight_words(config, k, n) * config.weight_word_bits // 8
    chunks, pieces = -(-rows // whole.chunk), len(whole.steps)
    if whole.constants or x_bytes + chunks * w_bytes <= w_bytes + pieces * x_bytes:
        yield from stream.batch(config, whole, host.payload, rows)
        return
    flipped = False
    inputs = whole.steps[0].inputs
    for step in whole.steps:
        piece = replace(whole, constants=step.loads, steps=(replace(step, loads=(), inputs=inputs),))
        yield from stream.batch(config, piece, host.payload, rows, flipped=flipped)
        flipped ^= chunks % 2 == 1
