"""The geometry of a convolution over activation words: kernel, stride, padding and dilation to descriptor fields. Pure Python."""

from dataclasses import dataclass, fields

from shiftforge.errors import InputError

MAX_STEP = 255
MAX_SIDE = (1 << 16) - 1


@dataclass(frozen=True)
class Geometry:
    """A two-dimensional convolution (or pooling window) over an image whose pixels are words in raster order.

    The order of K is tap by tap in raster order, and within a tap word by word: element
    ``(ky * kernel_w + kx) * channels + c``, once for every term.
    Output pixel (oy, ox) and tap (ky, kx) read image pixel (oy * stride_y + ky * dilation_y - pad_top,
    ox * stride_x + kx * dilation_x - pad_left), as `torch.nn.Conv2d` does; what lies outside is zero.

    Parameters
    ----------
    width, height : int
        Of the image in pixels, 1..65535.
    kernel_w, kernel_h, stride_x, stride_y, dilation_x, dilation_y : int
        1..255.
    pad_left, pad_top, pad_right, pad_bottom : int
        0..255.
    """

    width: int
    height: int
    kernel_w: int = 1
    kernel_h: int = 1
    stride_x: int = 1
    stride_y: int = 1
    dilation_x: int = 1
    dilation_y: int = 1
    pad_left: int = 0
    pad_top: int = 0
    pad_right: int = 0
    pad_bottom: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            low = 0 if f.name.startswith("pad") else 1
            high = MAX_SIDE if f.name in ("width", "height") else MAX_STEP
            if not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"{f.name} of a convolution must be {low}..{high}, not {value!r}")
        for name, size in (("width", self.output_width), ("height", self.output_height)):
            if not 1 <= size <= MAX_SIDE:
                raise InputError(
                    f"a convolution must have an output {name} of 1..{MAX_SIDE}, not {size}: its kernel must fit the padded image"
                )

    @property
    def output_width(self) -> int:
        padded = self.width + self.pad_left + self.pad_right
        return (padded - self.dilation_x * (self.kernel_w - 1) - 1) // self.stride_x + 1

    @property
    def output_height(self) -> int:
        padded = self.height + self.pad_top + self.pad_bottom
        return (padded - self.dilation_y * (self.kernel_h - 1) - 1) // self.stride_y + 1

    @property
    def taps(self) -> int:
        return self.kernel_w * self.kernel_h

    def descriptor(
        self, address: int, page: int, pixel_words: int, tap_words: int, terms: int = 1, images: int = 1
    ) -> dict[str, int]:
        """The descriptor fields of the patch walk (`hw.patch`).

        Parameters
        ----------
        address : int
            First word of the image.
        page : int
            Words of a page of the activation memory: a layer's addresses count modulo it.
        pixel_words : int
            Words from one image pixel to the next.
        tap_words : int
            Words of a pixel that are read, at most `pixel_words`.
        terms : int
            How often the patch is read over: the terms of a weight.
        images : int
            So many images of this size, one right after the other, read by one layer: its pixels run on from one to the next.
        """
        w = pixel_words
        before = (self.pad_top * self.width + self.pad_left) * w
        within = tap_words - 1
        last_x, last_y = (self.output_width - 1) * self.stride_x, (self.output_height - 1) * self.stride_y
        modulo = 1 << 32
        return {
            "pixels": images * self.output_width * self.output_height,
            "k_words": terms * self.taps * tap_words,
            "tap_words": tap_words,
            "kernel_w": self.kernel_w,
            "kernel_h": self.kernel_h,
            "stride_x": self.stride_x,
            "stride_y": self.stride_y,
            "dilation_x": self.dilation_x,
            "dilation_y": self.dilation_y,
            "pad_left": self.pad_left,
            "pad_top": self.pad_top,
            "output_width": self.output_width,
            "output_height": self.output_height,
            "input_width": self.width,
            "input_height": self.height,
            "input_address": address // page * page + (address - before) % page,
            "input_stride": self.stride_x * w,
            "row_step": (self.stride_y * self.width - last_x) * w % modulo,
            "image_step": (self.width * (self.height - last_y) - last_x) * w % modulo,
            "tap_step": (self.dilation_x * w - within) % modulo,
            "tap_row_step": ((self.dilation_y * self.width - (self.kernel_w - 1) * self.dilation_x) * w - within)
            % modulo,
        }
