"""The AXI4-Lite register map as data; `docs/registers.md`, the JSON map and the C header are generated from it.

All registers are 32 bits wide and word-addressed. An address that is not listed answers SLVERR (AMBA AXI4 specification, A3.4.4).
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Literal

ADDRESS_BITS = 12
ID_VALUE = 0x53465247
"""ASCII "SFRG"."""
VERSION_VALUE = 0x0001_0000
"""Major in the upper 16 bits, minor in the lower."""


class Error(IntFlag):
    """Sticky error bits: the ERRORS register and the status packet."""

    MAGIC = 1 << 0
    OPCODE = 1 << 1
    LENGTH = 1 << 2
    EARLY_TLAST = 1 << 3
    LATE_TLAST = 1 << 4
    ADDRESS = 1 << 5
    HASH = 1 << 6
    NOT_CONFIGURED = 1 << 7
    UNCOMMITTED = 1 << 8
    DESCRIPTOR = 1 << 9
    UNSUPPORTED = 1 << 10
    TKEEP = 1 << 11


ERROR_TEXT = {
    Error.MAGIC: "a packet did not begin with the magic number",
    Error.OPCODE: "a packet had an unknown opcode",
    Error.LENGTH: "a packet's length does not fit its opcode",
    Error.EARLY_TLAST: "a packet ended before its length (early tlast) and was discarded",
    Error.LATE_TLAST: "a packet went on past its length (late tlast) and was discarded",
    Error.ADDRESS: "a packet's address and length reach beyond one page of its memory",
    Error.HASH: "the program was compiled for another configuration (hash mismatch)",
    Error.NOT_CONFIGURED: "a layer came before a configuration packet with the right hash",
    Error.UNCOMMITTED: "a layer needed a buffer that no complete packet or layer had filled",
    Error.DESCRIPTOR: "a layer descriptor had a field out of range",
    Error.UNSUPPORTED: "a layer descriptor asked for a function that this build does not have",
    Error.TKEEP: "an input beat had null bytes (tkeep not all ones)",
}
"""One clause per error bit, for messages and for the generated documentation."""


class Flag(IntFlag):
    """Sticky IEEE 754 style flags of the roundings."""

    NV = 1 << 0
    OF = 1 << 1
    NX = 1 << 2


class Control(IntFlag):
    """Bits of the CONTROL register."""

    ENABLE = 1 << 0
    """Reset value 1. While 0 no new packet header is accepted; the packet under way finishes."""
    SOFT_RESET = 1 << 1
    """Write 1 to reset everything but the AXI4-Lite interface; reads 1 until that is over, as after a reset of all."""


class Status(IntFlag):
    """Bits of the STATUS register."""

    BUSY = 1 << 0
    CONFIGURED = 1 << 1


@dataclass(frozen=True)
class Register:
    """One register: its name, byte address, access (read-only, read-write, write 1 to clear) and meaning."""

    name: str
    address: int
    access: Literal["ro", "rw", "w1c"]
    text: str


class Address(IntEnum):
    """Byte addresses of the registers. `REGISTERS` describes each."""

    ID = 0x00
    VERSION = 0x04
    CONFIG_HASH = 0x08
    SHAPE = 0x0C
    FORMATS = 0x10
    MAX_K = 0x14
    CONTROL = 0x20
    STATUS = 0x24
    ERRORS = 0x28
    FLAGS = 0x2C
    CYCLES = 0x40
    BUSY_CYCLES = 0x44
    SLOTS = 0x48
    STALL_DRAIN = 0x4C
    STALL_INPUT = 0x50
    STALL_OUTPUT = 0x54
    PACKETS = 0x58
    ERROR_SEQUENCE = 0x5C


REGISTERS = (
    Register("ID", Address.ID, "ro", "ASCII 'SFRG'"),
    Register("VERSION", Address.VERSION, "ro", "interface version: major in bits 31:16, minor in bits 15:0"),
    Register("CONFIG_HASH", Address.CONFIG_HASH, "ro", "hash of the configuration that the machine was generated from"),
    Register("SHAPE", Address.SHAPE, "ro", "rows in bits 15:0, cols in bits 31:16"),
    Register(
        "FORMATS",
        Address.FORMATS,
        "ro",
        "activation format index in bits 7:0, output format index in bits 15:8, weight bits in 18:16, log2(activation pages) - 1 "
        "in 20:19, residual in 21, max_pool in 22, masks in 23, lanes in 31:24",
    ),
    Register("MAX_K", Address.MAX_K, "ro", "longest dot product"),
    Register("CONTROL", Address.CONTROL, "rw", "bit 0 enable (reset value 1), bit 1 soft reset (1 until it is over)"),
    Register(
        "STATUS", Address.STATUS, "ro", "bit 0 a layer is running, bit 1 configured by a packet with the right hash"
    ),
    Register("ERRORS", Address.ERRORS, "w1c", "sticky errors, see the table of errors"),
    Register("FLAGS", Address.FLAGS, "w1c", "sticky NV (bit 0), OF (bit 1), NX (bit 2)"),
    Register("CYCLES", Address.CYCLES, "ro", "clock cycles since reset, modulo 2^32"),
    Register("BUSY_CYCLES", Address.BUSY_CYCLES, "ro", "cycles in which a layer was running"),
    Register("SLOTS", Address.SLOTS, "ro", "products issued per PE: the useful and the padding ones"),
    Register("STALL_DRAIN", Address.STALL_DRAIN, "ro", "cycles in which a tile's last block waited for a drain buffer"),
    Register("STALL_INPUT", Address.STALL_INPUT, "ro", "cycles in which the input was ready and no beat was offered"),
    Register("STALL_OUTPUT", Address.STALL_OUTPUT, "ro", "cycles in which an output beat was offered and not taken"),
    Register("PACKETS", Address.PACKETS, "ro", "packets accepted without an error, modulo 2^32"),
    Register(
        "ERROR_SEQUENCE", Address.ERROR_SEQUENCE, "ro", "sequence number of the packet that set the first sticky error"
    ),
)
