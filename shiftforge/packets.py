"""The packet map as data: headers, opcodes, the layer descriptor and the payload layouts, with their encoders.

Both directions of the stream carry packets of whole beats (`Config.stream_bits`), each ended by one tlast:

    16-byte header | payload of `length` bytes | zeros to the end of the beat

All fields are little-endian. `docs/packets.md`, the JSON map and the C header are generated from the tables here.
Pure Python: the gateware reads it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Literal

from shiftforge.config import Config, power_of_two_at_least
from shiftforge.errors import InputError

MAGIC = 0x4653
"""Bytes "SF"."""
HEADER_BYTES = 16
_HEADER = struct.Struct("<HBBHHII")


class Opcode(IntEnum):
    """What a packet is. Bit 7 is set in those that the accelerator sends. `OPCODE_TEXT` describes each."""

    CONFIG = 1
    WEIGHTS = 2
    PARAMETERS = 3
    ACTIVATIONS = 4
    LAYER = 5
    STATUS = 6
    RESULT = 0x81
    STATUS_REPLY = 0x86


class HeaderFlag(IntFlag):
    """Bits of the header's flags byte."""

    CLEAR = 1 << 0
    """STATUS: clear the sticky errors and flags once they are in the reply."""


OPCODE_TEXT = {
    Opcode.CONFIG: "payload: the 32-bit configuration hash; layers are refused until it matches",
    Opcode.WEIGHTS: "payload: weight words, written from `address` on",
    Opcode.PARAMETERS: "payload: parameter words, written from `address` on",
    Opcode.ACTIVATIONS: "payload: activation words, written from `address` on",
    Opcode.LAYER: "payload: a layer descriptor; runs once the layer before has finished",
    Opcode.STATUS: "no payload; answered with a STATUS_REPLY once everything before has finished",
    Opcode.RESULT: "results of a layer that goes to the stream; `sequence` is the layer's",
    Opcode.STATUS_REPLY: "payload: the status words; `sequence` is the request's",
}


@dataclass(frozen=True)
class Header:
    """A packet header: magic u16, opcode u8, flags u8, sequence u16, reserved u16, address u32 (words), length u32 (bytes)."""

    opcode: int
    sequence: int
    address: int = 0
    length: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        return _HEADER.pack(MAGIC, self.opcode, self.flags, self.sequence & 0xFFFF, 0, self.address, self.length)

    @staticmethod
    def decode(data: bytes) -> "Header":
        """The header at the front of `data`; `InputError` where the magic number or the length is wrong."""
        if len(data) < HEADER_BYTES:
            raise InputError(f"a packet must have a header of {HEADER_BYTES} bytes, not {len(data)} bytes")
        magic, opcode, flags, sequence, _, address, length = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise InputError(f"a packet must begin with the magic number {MAGIC:#06x}, not {magic:#06x}")
        return Header(opcode, sequence, address, length, flags)


def packet(header: Header, payload: bytes, stream_bits: int) -> bytes:
    """The whole packet, padded with zeros to whole beats. `header.length` must be the payload's."""
    if header.length != len(payload):
        raise InputError(f"header.length must be the payload's {len(payload)} bytes, not {header.length}")
    data = header.encode() + payload
    beat = stream_bits // 8
    return data + bytes(-len(data) % beat)


def word_stride_bits(word_bits: int) -> int:
    """Bits that one memory word of `word_bits` takes in a payload: the next power of two, at least 8."""
    return max(8, power_of_two_at_least(word_bits))


@dataclass(frozen=True)
class MemoryPort:
    """One of the three memories as a packet sees it: equal pages (the top bits of an address), each committed by itself."""

    opcode: Opcode
    words: int
    word_bits: int
    pages: int

    @property
    def stride_bits(self) -> int:
        return word_stride_bits(self.word_bits)

    @property
    def page(self) -> int:
        """Words of a page."""
        return self.words // self.pages


def memory_ports(config: Config) -> tuple[MemoryPort, MemoryPort, MemoryPort]:
    """Weights, parameters and activations, in the order of their opcodes."""
    return (
        MemoryPort(Opcode.WEIGHTS, config.weight_words, config.weight_word_bits, 2),
        MemoryPort(Opcode.PARAMETERS, config.parameter_words, config.parameter_word_bits, 2),
        MemoryPort(Opcode.ACTIVATIONS, config.activation_words, config.activation_word_bits, config.activation_pages),
    )


# ---- layer descriptor


@dataclass(frozen=True)
class Field:
    """A descriptor field: `width` bits at bit `low` of 32-bit word `word`."""

    name: str
    word: int
    low: int
    width: int
    text: str
    signed: bool = False
    needs: Literal["residual", "max_pool", "nothing", "a later version"] = "nothing"
    """What a machine must have (the option of that name in `Config`) for the field to be other than 0."""

    def fixed(self, config: Config) -> bool:
        """Whether the machine accepts 0 alone; another value is refused as UNSUPPORTED."""
        built = {"nothing": True, "a later version": False, "residual": config.residual, "max_pool": config.max_pool}
        return not built[self.needs]


LAYER_WORDS = 24
COORDINATE_BITS = 18
"""Image coordinates of a patch count modulo 2^18 and are compared without sign: a padded pixel is far beyond the image."""
LAYER_BYTES = 4 * LAYER_WORDS
MAX_POOL_WORDS = 256
"""The most words that a maximum is taken over: `max_k` bounds dot products alone."""

LAYER_FIELDS = (
    Field(
        "to_stream",
        0,
        0,
        1,
        "1: results leave as a RESULT packet in the output format; 0: they stay on chip as activations",
    ),
    Field("post", 0, 1, 1, "1: round the sum to fp32, scale, bias, activation, round; 0: round the exact sum directly"),
    Field("saturate", 0, 2, 1, "1: finite overflow gives the largest finite value"),
    Field("act_kind", 0, 3, 2, "0 none, 1 relu, 2 clamp, 3 leaky relu"),
    Field("act_shift", 0, 5, 4, "slope 2^-n of leaky relu"),
    Field("exponent_bias", 0, 16, 8, "every weight is multiplied by 2^exponent_bias, exactly", signed=True),
    Field("pixels", 1, 0, 24, "M: rows of the matrix product, output pixels of a convolution"),
    Field("k_words", 2, 0, 16, "activation words per dot product: of all taps; of a maximum: its taps"),
    Field("k_tail", 2, 16, 9, "valid elements in the last word of each tap, 1..rows"),
    Field("n_tiles", 3, 0, 16, "tiles of `cols` output channels; of a maximum: channel words of a pixel"),
    Field("n_tail", 3, 16, 9, "valid channels in the last of them, 1..cols"),
    Field("input_address", 4, 0, 32, "first activation word read"),
    Field("output_address", 5, 0, 32, "first activation word written"),
    Field("input_stride", 6, 0, 16, "words from one pixel to the next of its output row"),
    Field("output_stride", 6, 16, 16, "words from one output pixel to the next"),
    Field("output_bank", 7, 0, 9, "element of the first output word that takes channel 0, 0..rows-1"),
    Field("output_height", 7, 16, 16, "output pixels in a column of an image; 0: one endless image"),
    Field("weight_address", 8, 0, 32, "first weight word: tile by tile, k_words * rows words each"),
    Field("parameter_address", 9, 0, 32, "first parameter word: tile by tile, ceil(cols / lanes) words each"),
    Field("clamp_lo", 10, 0, 32, "lower bound of clamp, fp32"),
    Field("clamp_hi", 11, 0, 32, "upper bound of clamp, fp32"),
    Field("result_bytes", 12, 0, 32, "payload length of the RESULT packet"),
    Field("tap_words", 13, 0, 16, "activation words per kernel tap, of k_words in all; 0: there is one tap"),
    Field("kernel_w", 13, 16, 8, "taps in a row of the kernel; 0: 256"),
    Field("kernel_h", 13, 24, 8, "rows of taps, after which the patch is read once more (terms of a weight); 0: 256"),
    Field("stride_x", 14, 0, 8, "image columns from one output pixel to the next"),
    Field("stride_y", 14, 8, 8, "image rows from one output row to the next"),
    Field("dilation_x", 14, 16, 8, "image columns from one tap to the next"),
    Field("dilation_y", 14, 24, 8, "image rows from one row of taps to the next"),
    Field("pad_left", 15, 0, 8, "zero columns before the image"),
    Field("pad_top", 15, 8, 8, "zero rows above the image"),
    Field("output_width", 15, 16, 16, "output pixels in a row; 0: one endless row"),
    Field("input_width", 16, 0, 16, "image width; words outside the image read as zeros; 0: there is no outside"),
    Field("input_height", 16, 16, 16, "image height"),
    Field("residual_address", 17, 0, 32, "first activation word of the residual", needs="residual"),
    Field("residual_scale", 18, 0, 32, "fp32 factor of the residual", needs="residual"),
    Field("residual", 19, 0, 1, "1: add the residual, scaled, after the bias; needs post", needs="residual"),
    Field(
        "pool_kind",
        19,
        1,
        1,
        "0 a matrix product or convolution, 1 the maximum over its windows, channel word by channel word",
        needs="max_pool",
    ),
    Field("reserved_kind", 19, 2, 1, "0", needs="a later version"),
    Field(
        "residual_bank",
        19,
        4,
        9,
        "element of the first residual word that is added to channel 0, 0..rows-1",
        needs="residual",
    ),
    Field("residual_stride", 19, 16, 16, "words from one residual pixel to the next", needs="residual"),
    Field("row_step", 20, 0, 32, "words from the last pixel of an output row to the first of the next, modulo 2^32"),
    Field("tap_step", 21, 0, 32, "words from a tap's last word to the next tap's first, modulo 2^32"),
    Field("tap_row_step", 22, 0, 32, "words from the last word of a row of taps to the first of the next, modulo 2^32"),
    Field("image_step", 23, 0, 32, "words from an image's last output pixel to the next one's first, modulo 2^32"),
)

LAYER_FIELD = {field.name: field for field in LAYER_FIELDS}


def encode_layer(values: Mapping[str, int]) -> bytes:
    """The descriptor payload; fields that are not given are 0. `InputError` where one does not fit."""
    words = [0] * LAYER_WORDS
    unknown = set(values) - set(LAYER_FIELD)
    if unknown:
        raise InputError(f"a layer descriptor must have only known fields, not {', '.join(sorted(unknown))}")
    for field in LAYER_FIELDS:
        value = values.get(field.name, 0)
        low, high = (-(1 << (field.width - 1)), 1 << (field.width - 1)) if field.signed else (0, 1 << field.width)
        if not low <= value < high:
            raise InputError(f"layer field {field.name} must be {low}..{high - 1}, not {value}")
        words[field.word] |= (value & ((1 << field.width) - 1)) << field.low
    return struct.pack(f"<{LAYER_WORDS}I", *words)


def decode_layer(payload: bytes) -> dict[str, int]:
    """Field name -> value."""
    if len(payload) != LAYER_BYTES:
        raise InputError(f"a layer descriptor must be {LAYER_BYTES} bytes, not {len(payload)}")
    words = struct.unpack(f"<{LAYER_WORDS}I", payload)
    values = {}
    for field in LAYER_FIELDS:
        value = (words[field.word] >> field.low) & ((1 << field.width) - 1)
        values[field.name] = value - (1 << field.width) if field.signed and value >> (field.width - 1) else value
    return values


# ---- status reply

STATUS_FIELDS = (
    ("hash", "configuration hash of the machine"),
    ("errors", "sticky errors"),
    ("error_sequence", "sequence number of the packet that set the first of them"),
    ("flags", "sticky NV, OF, NX"),
    ("cycles", "clock cycles since reset"),
    ("busy_cycles", "cycles in which a layer was running"),
    ("slots", "products issued per PE"),
    ("stall_drain", "cycles in which a tile's last block waited for a drain buffer"),
    ("stall_input", "cycles in which the input was ready and no beat was offered"),
    ("stall_output", "cycles in which an output beat was offered and not taken"),
    ("packets", "packets accepted without an error"),
    ("status", "the STATUS register"),
)
"""One u32 each, in this order, all sampled in the cycle in which the reply begins."""

STATUS_BYTES = 4 * len(STATUS_FIELDS)


def decode_status(payload: bytes) -> dict[str, int]:
    """Field name -> value of a STATUS_REPLY payload."""
    if len(payload) < STATUS_BYTES:
        raise InputError(f"a status reply must be {STATUS_BYTES} bytes, not {len(payload)}")
    return dict(
        zip((name for name, _ in STATUS_FIELDS), struct.unpack_from(f"<{len(STATUS_FIELDS)}I", payload), strict=True)
    )
