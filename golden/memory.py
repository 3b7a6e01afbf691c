"""The three memories of the machine, element by element, with their pages."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.rounding import storage_dtype
from shiftforge.config import Config
from shiftforge.packets import MemoryPort, memory_ports

Elements = npt.NDArray[np.uint8 | np.uint16 | np.uint32]
IntArray = npt.NDArray[np.int64]


@dataclass(eq=False)
class Memory:
    """One memory: what packets and layers write stays until it is written again, also where the packet was bad.

    Parameters
    ----------
    port : MemoryPort
        Depth and word width.
    elements : unsigned array (port.words, elements per word)
        Element 0 is in the lowest bits of a word. Zero after configuration of the device; a reset leaves them alone.
    element_bits : int
        Width of one element.
    """

    port: MemoryPort
    elements: Elements
    element_bits: int

    def words(self, base: int, offsets: npt.ArrayLike) -> IntArray:
        """Word addresses ``base + offsets``, wrapped inside base's page: no layer can leave the page it starts in."""
        low = self.port.page - 1
        return (base & ~low) | ((base + np.asarray(offsets, dtype=np.int64)) & low)

    def load(self, address: int, data: bytes) -> None:
        """Write the whole words at the front of ``data`` (word stride as in a payload) from ``address`` on."""
        stride = self.port.stride_bits // 8
        count = len(data) // stride
        raw = np.frombuffer(data, np.uint8, count * stride).reshape(count, stride)
        self.elements[address : address + count] = self._unpack(raw)

    def _unpack(self, raw: npt.NDArray[np.uint8]) -> Elements:
        n, dtype = self.elements.shape[1], self.elements.dtype
        if self.element_bits == 8 * dtype.itemsize:
            used = np.ascontiguousarray(raw[:, : n * dtype.itemsize])
            return used.view(dtype.newbyteorder("<")).astype(dtype)
        planes = np.unpackbits(raw, axis=1, bitorder="little")[:, : n * self.element_bits]
        weights = (1 << np.arange(self.element_bits)).astype(dtype)
        return (planes.reshape(len(raw), n, self.element_bits) * weights).sum(axis=2, dtype=dtype)


@dataclass(eq=False)
class Memories:
    """The activation, weight and parameter memories of one machine.

    Elements are activation codes (``rows`` per word), weight elements (``cols`` per word), and scale and bias of each lane
    in turn (``2 * lanes`` fp32 patterns per word).
    """

    weights: Memory
    parameters: Memory
    activations: Memory

    @classmethod
    def of(cls, config: Config) -> "Memories":
        """Fresh memories, all zero."""
        weights, parameters, activations = memory_ports(config)
        return cls(
            Memory(weights, np.zeros((weights.words, config.cols), np.uint8), config.weights.element_bits),
            Memory(parameters, np.zeros((parameters.words, 2 * config.lanes), np.uint32), 32),
            Memory(
                activations,
                np.zeros((activations.words, config.rows), storage_dtype(config.activation)),
                config.activation.bits,
            ),
        )

    def of_opcode(self, opcode: int) -> Memory | None:
        """The memory that packets of that opcode fill, if any."""
        for memory in (self.weights, self.parameters, self.activations):
            if memory.port.opcode == opcode:
                return memory
        return None
