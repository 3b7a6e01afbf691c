"""The ``rtl`` transport: the Verilog in a folder, compiled and clocked from Python, whole transfers per call."""

import ctypes
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shiftforge import registers
from shiftforge.errors import DeviceError, InputError, ToolError
from shiftforge.transport import Pattern, ProgressCallback, TransferResult, check_pattern
from sim import verilate

OKAY, SLVERR, DECERR = 0, 2, 3
"""AXI responses (AMBA AXI4 specification, A3.4.4)."""
BATCH_CYCLES = 100_000
"""Cycles per call into the library: between calls Python sees Ctrl-C and progress is told."""
REGISTER_CYCLES = 1_000
"""A register access that takes longer is a time-out."""

_DONE, _MORE, _TIMEOUT, _UNSTABLE, _DEAD = range(5)  # harness.cpp, enum Status


class RtlTransport:
    """The accelerator's Verilog in a folder, as a :class:`shiftforge.transport.Transport`.

    All ``*.v`` and ``*.sv`` files of the folder are compiled, so what is simulated is what lies there. Construction builds (or
    finds in the cache), resets for four cycles, and stops before cycle 0. Use it as a context manager, or call `close`.

    Parameters
    ----------
    directory : Path
        Folder with the Verilog.
    stream_bits : int
        Width of both streams: 32, 64 or 128.
    input_valid, output_ready : Pattern
        In which cycles the source offers and the sink takes; may be set again between transfers.
    timeout_cycles : int
        A transfer fails after this many cycles in which neither stream moved although this side held neither up: the source
        offered a beat or had none left, and the sink was ready.
    record_beats : bool
        Whether results carry the cycle of every beat.
    top : str
        Name of the top module.
    cache : Path, optional
        Folder of compiled designs; default :func:`sim.verilate.cache_directory`.
    threads : int
        Simulation threads.
    waves : tuple of (Path, int, int), optional
        File for VCD waves, first cycle and first cycle after the end. One cycle is drawn 1000 time units wide.

    Members
    -------
    cpu_seconds : float
        Processor time spent inside the simulation so far.

    Raises
    ------
    InputError
        When there is no Verilog, it is refused, or its ports are not the accelerator's.
    ToolError
        When a tool is missing or failed.
    """

    name = "rtl"

    def __init__(
        self,
        directory: Path,
        *,
        stream_bits: int,
        input_valid: Pattern = None,
        output_ready: Pattern = None,
        timeout_cycles: int = 1_000_000,
        record_beats: bool = True,
        top: str = verilate.TOP,
        cache: Path | None = None,
        threads: int = 1,
        waves: tuple[Path, int, int] | None = None,
    ) -> None:
        if timeout_cycles < 1:
            raise InputError(f"timeout_cycles must be at least 1, not {timeout_cycles!r}")
        self.directory = directory
        self.input_valid = input_valid
        self.output_ready = output_ready
        self.timeout_cycles = timeout_cycles
        self.record_beats = record_beats
        self.cpu_seconds = 0.0
        self._beat = stream_bits // 8
        self._clock = time.thread_time if threads == 1 else time.process_time
        self._begun = b""  # of an output packet whose end has not come yet
        self._sim: int | None = None
        path = verilate.build(
            verilog_files(directory), top, cache, stream_bits=stream_bits, trace=waves is not None, threads=threads
        )
        self._library = _load(path)
        self._sim = self._library.sf_create()
        if not self._sim:
            raise ToolError(f"the simulated design must start, but {path} could not create its model")
        if waves is not None:
            wave_file, first, end = waves
            self._library.sf_trace(self._sim, str(wave_file).encode(), first, end)
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model and finish the waves. Nothing else may be called afterwards."""
        if self._sim:
            self._library.sf_destroy(self._sim)
        self._sim = None

    @property
    def cycle(self) -> int:
        """The cycle that comes next; 0 right after a reset."""
        return int(self._library.sf_cycle(self._model()))

    def reset(self) -> None:
        """Reset the device and begin again at cycle 0."""
        self._begun = b""
        self._check(self._timed(lambda: self._library.sf_reset(self._model())))

    def hardware_hash(self) -> int:
        """The configuration hash register.

        Raises
        ------
        DeviceError
            When the device does not answer, or with an error.
        """
        value, response = self.read_register(registers.Address.CONFIG_HASH)
        if response != OKAY:
            raise DeviceError(f"the device must tell its configuration hash, but it answered with response {response}")
        return value

    def read_register(self, address: int) -> tuple[int, int]:
        """Read over AXI4-Lite: (value, response). The access takes clock cycles; the streams rest meanwhile."""
        self._check_address(address)
        value, response = ctypes.c_uint32(), ctypes.c_int()
        status = self._timed(
            lambda: self._library.sf_read_register(
                self._model(), address, ctypes.byref(value), REGISTER_CYCLES, ctypes.byref(response)
            )
        )
        self._check(status, f"read of register {address:#05x}")
        return value.value, response.value

    def write_register(self, address: int, value: int, strobe: int = 0b1111) -> int:
        """Write over AXI4-Lite and return the response; `strobe` has one bit per byte."""
        self._check_address(address)
        if not 0 <= value < 1 << 32:
            raise InputError(f"a register's value must fit 32 bits, not {value!r}")
        response = ctypes.c_int()
        status = self._timed(
            lambda: self._library.sf_write_register(
                self._model(), address, value, strobe, REGISTER_CYCLES, ctypes.byref(response)
            )
        )
        self._check(status, f"write of register {address:#05x}")
        return response.value

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        """See :meth:`shiftforge.transport.Transport.transfer`.

        After a `DeviceError` the rest of the input and the packets received are dropped, and the device is where it got stuck:
        `reset` it, or try whether it answers a further packet.
        """
        model, library = self._model(), self._library
        data, last, ends = self._beats(packets)
        if expected_packets < 0:
            raise InputError(f"expected_packets must be 0 or more, not {expected_packets!r}")
        valid, ready = _bits(self.input_valid, "input_valid"), _bits(self.output_ready, "output_ready")
        total = len(last) + expected_packets
        start = self.cycle
        patterns = (valid.ctypes.data, len(valid), ready.ctypes.data, len(ready))
        library.sf_begin(
            model,
            data,
            last.ctypes.data,
            len(last),
            expected_packets,
            *patterns,
            self.timeout_cycles,
            self.record_beats,
        )
        finished = False
        try:
            status = _MORE
            while status == _MORE:
                status = self._timed(lambda: library.sf_run(model, BATCH_CYCLES))
                if progress is not None:
                    received = min(int(library.sf_packets(model)), expected_packets)
                    progress(int(library.sf_position(model)) + received, total)
            if status == _TIMEOUT:
                raise DeviceError(self._stuck(ends, expected_packets))
            self._check(status)
            finished = True
        finally:
            if not finished:
                self._received()  # keeps the beginning of a packet, so that the next one found is whole
                library.sf_abandon(model)
        return TransferResult(
            self._received(), self.cycle - start, self._numbers(1).astype(np.int64), self._numbers(2).astype(np.int64)
        )

    def _beats(self, packets: Sequence[bytes]) -> tuple[bytes, NDArray[np.uint8], NDArray[np.int64]]:
        """All packets as one string, tlast of every beat, and the number of beats up to each packet's end."""
        for index, packet in enumerate(packets):
            if len(packet) == 0 or len(packet) % self._beat:
                raise InputError(
                    f"packet {index} must be a whole number of {self._beat}-byte beats and at least one, not {len(packet)} bytes"
                )
        ends = np.cumsum([len(packet) // self._beat for packet in packets], dtype=np.int64)
        last = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
        last[ends - 1] = 1
        return b"".join(packets), last, ends

    def _received(self) -> list[bytes]:
        size = ctypes.c_uint64()
        pointer = self._library.sf_output(self._model(), ctypes.byref(size))
        stream = self._begun + (ctypes.string_at(pointer, size.value) if size.value else b"")
        before = len(self._begun)
        bounds = [0, *(before + int(end) for end in self._numbers(0))]
        self._begun = stream[bounds[-1] :]
        return [stream[a:b] for a, b in itertools.pairwise(bounds)]

    def _numbers(self, which: int) -> NDArray[np.uint64]:
        size = ctypes.c_uint64()
        pointer = self._library.sf_numbers(self._model(), which, ctypes.byref(size))
        raw = ctypes.string_at(pointer, 8 * size.value) if size.value else b""
        return np.frombuffer(raw, dtype=np.uint64)

    def _stuck(self, ends: NDArray[np.int64], expected: int) -> str:
        model, library = self._model(), self._library
        position, received = int(library.sf_position(model)), int(library.sf_packets(model))
        got = f"{received} of {expected} packets received"
        beats = int(ends[-1]) if len(ends) else 0
        when = f"for {self.timeout_cycles} cycles up to cycle {self.cycle - 1}"
        if position < beats:
            packet = int(np.searchsorted(ends, position, side="right"))
            beat = position - (int(ends[packet - 1]) if packet else 0)
            return f"the input side waits: the device does not accept beat {beat} of packet {packet} {when} ({got})"
        return f"the output side waits: nothing comes {when} ({got}, all {beats} input beats accepted)"

    def _check(self, status: int, access: str = "") -> None:
        if status == _TIMEOUT:
            raise DeviceError(f"the device must answer the {access} within {REGISTER_CYCLES} cycles, and it did not")
        if status == _UNSTABLE:
            raise DeviceError(
                f"an output beat must stay until it is taken, but m_axis changed in cycle {self.cycle} while tready was low"
            )
        if status == _DEAD:
            said = self._library.sf_error(self._model()).decode(errors="replace")
            raise DeviceError(f"the simulated design must run, but the simulator stopped: {said}")

    def _check_address(self, address: int) -> None:
        if not 0 <= address < 1 << registers.ADDRESS_BITS:
            raise InputError(
                f"a register's address must be within 0..{(1 << registers.ADDRESS_BITS) - 1:#x}, not {address!r}"
            )

    def _timed(self, call: Callable[[], int]) -> int:
        start = self._clock()
        try:
            return call()
        finally:
            self.cpu_seconds += self._clock() - start

    def _model(self) -> int:
        if not self._sim:
            raise InputError("the rtl transport must be open, and it has been closed")
        return self._sim


def verilog_files(directory: Path) -> list[Path]:
    """The Verilog of a folder, by name.

    Raises
    ------
    InputError
        When the folder holds none.
    """
    files = sorted(path for suffix in ("*.v", "*.sv") for path in directory.glob(suffix))
    if not files:
        raise InputError(f"the Verilog folder must hold *.v or *.sv files, not none: {str(directory)!r}")
    return files


def _bits(pattern: Pattern, name: str) -> NDArray[np.uint8]:
    check_pattern(pattern, name)
    return np.zeros(0, np.uint8) if pattern is None else np.ascontiguousarray(pattern).view(np.uint8)


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError(f"the compiled simulation must load, but: {error}") from error
    pointer, number, word, flag = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
    size, response = ctypes.POINTER(number), ctypes.POINTER(flag)
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "sf_create": (pointer, []),
        "sf_destroy": (None, [pointer]),
        "sf_error": (ctypes.c_char_p, [pointer]),
        "sf_reset": (flag, [pointer]),
        "sf_trace": (flag, [pointer, ctypes.c_char_p, number, number]),
        "sf_begin": (
            None,
            [pointer, ctypes.c_char_p, pointer, number, number, pointer, number, pointer, number, number, flag],
        ),
        "sf_run": (flag, [pointer, number]),
        "sf_abandon": (None, [pointer]),
        "sf_write_register": (flag, [pointer, word, word, word, number, response]),
        "sf_read_register": (flag, [pointer, word, ctypes.POINTER(word), number, response]),
        "sf_cycle": (number, [pointer]),
        "sf_position": (number, [pointer]),
        "sf_packets": (number, [pointer]),
        "sf_output": (pointer, [pointer, size]),
        "sf_numbers": (pointer, [pointer, flag, size]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
