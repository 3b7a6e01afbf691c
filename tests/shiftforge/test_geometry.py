import pytest

from shiftforge.errors import InputError
from shiftforge.geometry import Geometry


def test_output_sizes_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for case in (
        (7, 5, 3, 2, 2, 1, 1, 2, 1, 0),
        (8, 8, 1, 1, 3, 2, 1, 1, 0, 0),
        (6, 9, 2, 4, 1, 3, 2, 1, 2, 3),
    ):
        w, h, kw, kh, sx, sy, dx, dy, px, py = case
        g = Geometry(w, h, kw, kh, sx, sy, dx, dy, px, py, px, py)
        layer = torch.nn.Conv2d(1, 1, (kh, kw), (sy, sx), (py, px), (dy, dx))
        assert layer(torch.zeros(1, 1, h, w)).shape[2:] == (g.output_height, g.output_width)
        assert g.taps == kw * kh


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"width": 0}, "^width of a convolution must be 1..65535, not 0$"),
        ({"kernel_w": 256}, "^kernel_w of a convolution must be 1..255, not 256$"),
        ({"pad_top": -1}, "^pad_top of a convolution must be 0..255, not -1$"),
        ({"stride_x": 1.5}, "^stride_x of a convolution must be 1..255, not 1.5$"),
        (
            {"kernel_h": 6},
            "^a convolution must have an output height of 1..65535, not 0: its kernel must fit the padded image$",
        ),
    ],
)
def test_refusals(fields, text):
    with pytest.raises(InputError, match=text):
        Geometry(**{"width": 5, "height": 5, **fields})
