"""Random stimulus for whole machines: programs of good and broken packets, with any descriptor that the machine runs."""

import struct
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.geometry import Geometry
from shiftforge.packets import (
    HEADER_BYTES,
    LAYER_FIELD,
    Header,
    HeaderFlag,
    Opcode,
    encode_layer,
    memory_ports,
    packet,
)

Bytes: TypeAlias = npt.NDArray[np.uint8]

_FLOATS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-130, 3e38, np.inf, np.nan], np.float32)
_MOST_WORDS = 40


_PATCH_FIELDS = (
    "tap_words",
    "kernel_w",
    "kernel_h",
    "stride_x",
    "stride_y",
    "dilation_x",
    "dilation_y",
    "pad_left",
    "pad_top",
    "output_width",
    "output_height",
    "input_width",
    "input_height",
    "input_stride",
    "row_step",
    "image_step",
    "tap_step",
    "tap_row_step",
)


def random_geometry(rng: np.random.Generator, most_taps: int) -> Geometry:
    """A small convolution of up to that many taps, padded, strided and dilated at random."""

    def integer(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    kernel_w = integer(1, min(4, most_taps))
    kernel_h = integer(1, min(4, most_taps // kernel_w))
    while True:
        size, steps, pads = (
            (integer(1, 9), integer(1, 9)),
            [integer(1, 3) for _ in range(4)],
            [integer(0, 3) for _ in range(4)],
        )
        try:
            return Geometry(*size, kernel_w, kernel_h, *steps, *pads)
        except InputError:  # the kernel does not fit the padded image
            continue


class Programs:
    """Makes packets, numbered in order, from one generator: the same seed gives the same bytes.

    Every layer is one that the machine defines: a layer never reads the page that it writes. Where its addresses run over the end
    of a page they wrap, operands may be memory that no packet has filled, and result rows may overlap.

    Parameters
    ----------
    config : Config
    rng : numpy Generator
    """

    def __init__(self, config: Config, rng: np.random.Generator) -> None:
        self.config = config
        self.rng = rng
        self._sequence = 0
        self._beat = config.stream_bits // 8

    def _integer(self, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def send(self, opcode: int, payload: bytes = b"", address: int = 0, flags: int = 0) -> bytes:
        """A well-formed packet with the next sequence number."""
        self._sequence += 1
        header = Header(opcode, self._sequence, address, len(payload), flags)
        return packet(header, payload, self.config.stream_bits)

    def configure(self) -> bytes:
        """The packet with the right hash."""
        return self.send(Opcode.CONFIG, self.config.hash.to_bytes(4, "little"))

    def status(self) -> bytes:
        """A status request; half of them clear."""
        return self.send(Opcode.STATUS, flags=self._integer(0, 1) * int(HeaderFlag.CLEAR))

    def load(self, index: int, page: int | None = None) -> bytes:
        """Random words into a random place of a memory: 0 weights, 1 parameters, 2 activations."""
        port = memory_ports(self.config)[index]
        words = self._integer(1, min(port.page, _MOST_WORDS))
        page = self._integer(0, port.pages - 1) if page is None else page
        address = page * port.page + self._integer(0, port.page - words)
        size = words * port.stride_bits // 8
        payload: Bytes = self.rng.integers(0, 256, size, dtype=np.uint8)
        if index == 1:
            values = self.rng.normal(size=size // 4).astype(np.float32)
            special = self.rng.random(len(values)) < 0.1
            payload = np.where(special, self.rng.choice(_FLOATS, len(values)), values).astype("<f4").view(np.uint8)
        return self.send(port.opcode, payload.tobytes(), address)

    def layer(self, **fields: int) -> bytes:
        """A layer with random fields, but for those given."""
        config = self.config
        weights, parameters, activations = memory_ports(config)
        k_words = self._integer(1, config.max_k_words)
        most = config.max_k - (k_words - 1) * config.rows
        most_tiles = 40 if self.rng.random() < 0.1 else 4  # some layers fill the output FIFO
        pixels = self._integer(1, most_tiles * config.rows + 1)
        n_tiles, n_tail = self._integer(1, 3), self._integer(1, config.cols)
        to_stream, page = int(self.rng.random() < 0.6), self._integer(0, activations.pages - 1)
        other = (page + self._integer(1, activations.pages - 1)) % activations.pages
        low, high = sorted(self.rng.normal(size=2).astype(np.float32))
        values = {
            "to_stream": to_stream,
            "post": self._integer(0, 1),
            "saturate": self._integer(0, 1),
            "act_kind": self._integer(0, 3),
            "act_shift": self._integer(0, 15),
            "exponent_bias": self._integer(-24, 24),
            "pixels": pixels,
            "k_words": k_words,
            "k_tail": self._integer(1, min(config.rows, most)),
            "n_tiles": n_tiles,
            "n_tail": n_tail,
            "input_address": page * activations.page + self._integer(0, activations.page - 1),
            "output_address": other * activations.page + self._integer(0, activations.page - 1),
            "input_stride": self._integer(0, k_words + 1),
            "output_stride": self._integer(0, ceil_div(n_tiles * config.cols, config.rows) + 1),
            "output_bank": self._integer(0, config.rows - 1),
            "weight_address": self._integer(0, weights.words - 1),
            "parameter_address": self._integer(0, parameters.words - 1),
            "clamp_lo": int(low.view(np.uint32)),
            "clamp_hi": int(high.view(np.uint32)),
        }
        if config.residual:
            values |= self._residual(other)
        if config.max_pool and self.rng.random() < 0.3:
            values |= self._maximum()
            to_stream = 0
        values |= self._patches(values)
        steps = values["pixels"] * ((n_tiles - 1) * config.groups + ceil_div(n_tail, config.lanes))
        values["result_bytes"] = steps * config.lanes * config.output.bytes if to_stream else 0
        return self.send(Opcode.LAYER, encode_layer({**values, **fields}))

    def _residual(self, output_page: int) -> dict[str, int]:
        """Fields of a residual anywhere but in the page that is written; a third of the layers have none, or ignore it."""
        config, page = self.config, self.config.activation_page
        pages = config.activation_pages
        where = (output_page + self._integer(1, pages - 1)) % pages
        fields = {
            "residual_address": where * page + self._integer(0, page - 1),
            "residual_stride": self._integer(0, ceil_div(3 * config.cols, config.rows) + 1),
            "residual_bank": self._integer(0, config.rows - 1),
            "residual_scale": int(
                self.rng.choice([np.float32(self.rng.normal()), self.rng.choice(_FLOATS)]).view(np.uint32)
            ),
        }
        return {**fields, "residual": 1, "post": 1} if self.rng.random() < 0.7 else fields

    def _maximum(self) -> dict[str, int]:
        """Fields of a maximum; what is said of sums is left as it is, and must not matter."""
        fixed = dict.fromkeys(("to_stream", "post", "residual", "output_bank"), 0)
        words = {"k_words": self._integer(1, 12), "k_tail": self.config.rows, "n_tiles": self._integer(1, 3)}
        return {**fixed, **words, "pool_kind": 1, "output_stride": self._integer(0, words["n_tiles"] + 1)}

    def _patches(self, values: dict[str, int]) -> dict[str, int]:
        """Fields that make of a matrix product a convolution over an image of its pixels; now and then they mean nothing known."""
        kind, words = self.rng.random(), values["k_words"]
        if kind < 0.5:
            return {}
        if kind < 0.6:
            return {
                name: int(self.rng.integers(1 << self._integer(1, LAYER_FIELD[name].width))) for name in _PATCH_FIELDS
            }
        tap_words = self._integer(1, min(words, 3))
        geometry = random_geometry(self.rng, max(1, words // tap_words))
        page = self.config.activation_page
        terms = self._integer(1, max(1, words // (tap_words * geometry.taps)))
        pixel_words, images = tap_words + self._integer(0, 1), self._integer(1, 3)
        made = geometry.descriptor(values["input_address"], page, pixel_words, tap_words, terms, images)
        return made if made["pixels"] <= 60 * self.config.rows else {}

    def ready(self) -> list[bytes]:
        """Packets after which every layer may run: configured, and every page committed."""
        pages = [(index, page) for index, port in enumerate(memory_ports(self.config)) for page in range(port.pages)]
        return [self.configure(), *(self.load(index, page) for index, page in pages)]

    def broken(self) -> bytes:
        """A packet that is wrong in one of the ways that `docs/architecture.md` names."""
        kinds = (
            lambda: self.send(Opcode.CONFIG, bytes(4)),
            lambda: self.send(self._integer(7, 255)),
            self._short,
            self._short,
            self._long,
            lambda: b"\0" + self._any()[1:],
            lambda: self._patched(self._any(), 12, self._integer(0, 400)),
            lambda: self._patched(self.load(self._integer(0, 2)), 8, self._integer(0, (1 << self._integer(1, 32)) - 1)),
            lambda: self.layer(**{str(self.rng.choice(["pixels", "k_words", "k_tail", "n_tiles", "n_tail"])): 0}),
            lambda: self.layer(k_words=self.config.max_k_words + 1),
            lambda: self.layer(to_stream=0, input_address=0, output_address=0),
            lambda: self.layer(post=1, act_kind=2, clamp_lo=0, clamp_hi=0x8000_0000),
            lambda: self.layer(**({"residual": 1, "post": 0} if self.config.residual else {"residual": 1})),
            lambda: self.layer(to_stream=1, pool_kind=1),
            lambda: self.layer(reserved_kind=1),
            *((self._residual_in_place,) if self.config.residual else ()),
        )
        return kinds[self._integer(0, len(kinds) - 1)]()

    def _residual_in_place(self) -> bytes:
        page = self.config.activation_page
        return self.layer(residual=1, post=1, to_stream=0, pool_kind=0, residual_address=0, output_address=page - 1)

    def _any(self) -> bytes:
        makers = (lambda: self.load(self._integer(0, 2)), self.layer, self.status, self.configure)
        return makers[self._integer(0, 3)]()

    def _short(self) -> bytes:
        whole = self._any()
        beats = len(whole) // self._beat
        return whole[: self._beat * self._integer(1, beats - 1)] if beats > 1 else whole + bytes(self._beat)

    def _long(self) -> bytes:
        return self._any() + bytes(self._beat * self._integer(1, 4))

    @staticmethod
    def _patched(data: bytes, offset: int, value: int) -> bytes:
        return data[:offset] + struct.pack("<I", value) + data[offset + 4 : max(len(data), HEADER_BYTES)]

    def program(self, packets: int, *, broken: float = 0.1) -> list[bytes]:
        """`ready`, then about that many random packets, each broken with probability ``broken``, and a status request."""
        made = self.ready()
        for _ in range(packets):
            kind = self.rng.random()
            if self.rng.random() < broken:
                made.append(self.broken())
                if self.rng.random() < 0.7:
                    made += self.ready()
            elif kind < 0.4:
                made.append(self.layer())
            elif kind < 0.9:
                made.append(self.load(self._integer(0, 2)))
            else:
                made.append(self.status())
        return [*made, self.status()]


Tile: TypeAlias = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]
"""Activation codes (rows, K) and weight elements (K, cols)."""


def hard_tiles(config: Config, rng: np.random.Generator) -> list[Tile]:
    """Dot products that are hard for float accumulators, in random order.

    Any codes; the largest sums of both signs at `max_k`; sums that cancel but for the smallest subnormal; one tiny term among huge
    ones; subnormals; one exponent all along, two in turn; specials; signed zeros; K = 1.
    """
    fmt, code, most = config.activation, config.weights, config.max_k

    def any_codes(k: int, *, finite: bool = False) -> npt.NDArray[np.uint32]:
        x = rng.integers(0, 1 << fmt.bits, (config.rows, k)).astype(np.uint32)
        special = (x & np.uint32(fmt.sign_bit - 1)) > fmt.max_finite
        return np.where(special & finite, x & np.uint32((1 << fmt.fraction_bits) - 1), x).astype(np.uint32)

    def any_weights(k: int) -> npt.NDArray[np.uint8]:
        return rng.integers(0, 1 << code.element_bits, (k, config.cols)).astype(np.uint8)

    def with_exponents(k: int, *fields: int) -> npt.NDArray[np.uint32]:
        """Codes whose exponent fields take turns."""
        rest = any_codes(k) & np.uint32(fmt.sign_bit | ((1 << fmt.fraction_bits) - 1))
        return rest | (np.resize(np.array(fields, np.uint32), k) << np.uint32(fmt.fraction_bits))

    largest = np.full((config.rows, most), fmt.max_finite, np.uint32)
    strongest = np.full((most, config.cols), code.max_exponent, np.uint8)
    # Each activation twice, the second time with the other sign of weight; the smallest subnormal stands at some place.
    half = any_codes(max(1, (most - 1) // 2), finite=True)
    weights = any_weights(half.shape[1]) & np.uint8((1 << code.bits) - 1)
    order = rng.permutation(2 * half.shape[1] + 1)
    cancelled = np.concatenate([half, half, np.ones((config.rows, 1), np.uint32)], axis=1)[:, order]
    opposite = np.concatenate([weights, weights ^ code.sign_bit, np.zeros((1, config.cols), np.uint8)])[order]
    tiny = np.where(rng.permutation(most) == 0, 1, largest).astype(np.uint32)
    fields = rng.integers(0, fmt.max_exponent_field, 3)
    zeros = rng.choice(np.array([0, fmt.sign_bit], np.uint32), (config.rows, most))
    specials = np.array([fmt.nan, fmt.sign_bit | fmt.nan, *((fmt.inf, fmt.sign_bit | fmt.inf) if fmt.has_inf else ())])
    some = np.where(rng.random((config.rows, most)) < 0.1, rng.choice(specials, (config.rows, most)), any_codes(most))
    tiles = [
        *((any_codes(k), any_weights(k)) for k in (most, most, 1)),
        (largest, strongest),
        (largest, strongest | np.uint8(code.sign_bit)),
        *([(cancelled, opposite)] if len(order) <= most else []),
        (tiny, any_weights(most)),
        (any_codes(most) & np.uint32(fmt.sign_bit | ((1 << fmt.fraction_bits) - 1)), any_weights(most)),
        (with_exponents(most, int(fields[0])), any_weights(most)),
        (with_exponents(most, int(fields[1]), int(fields[2])), any_weights(most)),
        (some.astype(np.uint32), any_weights(most)),
        (zeros, any_weights(most)),
    ]
    return [tiles[i] for i in rng.permutation(len(tiles))]
