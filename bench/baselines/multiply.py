"""A pipelined multiplier out of carry chains: rows in pairs, then a tree of adders with a register behind each level."""

from amaranth.hdl import Cat, Const, Module, Signal, Value

from bench.baselines.pair_add import PairAdd
from hw.delay import register


def levels(weight_bits: int) -> int:
    """Latency of `multiply` in cycles: the pairs, and ceil(log2(pairs)) levels of adders."""
    pairs = -(-weight_bits // 2)
    return 1 + (pairs - 1).bit_length()


def multiply(m: Module, x: Value, w: Value, *, cells: bool) -> Signal:
    """The exact product of `x` and `w`, `levels(len(w))` cycles later, ``len(x) + len(w)`` bits wide.

    Signedness is that of the shapes: both signed gives a signed product, both unsigned an unsigned one. The tree of an 8x8
    product takes 41 bits of carry chain for the pairs, 20 for their sums and 12 for the product: no partial product costs a LUT.

    Parameters
    ----------
    m : Module
        Gets the pair adders as submodules ``pair_<row>``.
    x, w : Value
        `w` of at least two bits.
    cells : bool
        ECP5 carry cells for the pairs (see `PairAdd`).
    """
    is_signed = x.shape().signed
    rows = len(w)
    terms: list[tuple[int, Signal]] = []  # (weight of the lowest bit, value)
    for j in range(0, rows, 2):
        last = j + 2 >= rows
        width = len(x) + min(2, rows - j)
        row = _extended(x, width)
        low = Cat(w[j].replicate(width))
        if j + 1 == rows:  # an odd row stands alone; a signed one would have a negative weight
            if is_signed:
                raise ValueError(f"a signed w must have an even width, not {rows}")
            sum_of_pair: Value = row & low
        else:
            adder = PairAdd(width, subtract=is_signed and last, cells=cells)
            high = Cat(w[j + 1].replicate(width))
            doubled = Cat(Const(0, 1), row[: width - 1])
            first, second = ((doubled, high), (row, low)) if adder.subtract else ((row, low), (doubled, high))
            sum_of_pair = adder.add(m, f"pair_{j}", a=first[0], b=first[1], c=second[0], d=second[1])
        terms.append((j, _held(m, sum_of_pair, is_signed, f"pair_{j}_held")))
    level = 0
    while len(terms) > 1:
        level += 1
        summed: list[tuple[int, Signal]] = []
        for i in range(0, len(terms) - 1, 2):
            (at, a), (above, b) = terms[i], terms[i + 1]
            step = above - at
            # The lowest bits pass by; the rest is one chain, as wide as the product of the rows so far.
            total = (a[step:].as_signed() if is_signed else a[step:]) + b
            width = len(b)
            summed.append((at, _held(m, Cat(a[:step], total[:width]), is_signed, f"sum_{level}_{i}")))
        if len(terms) % 2:
            at, value = terms[-1]
            summed.append((at, _held(m, value, is_signed, f"wait_{level}")))
        terms = summed
    return terms[0][1]


def _extended(x: Value, width: int) -> Value:
    fill = x[-1] if x.shape().signed else Const(0, 1)
    return Value.cast(Cat(x, fill.replicate(width - len(x))))


def _held(m: Module, value: Value, is_signed: bool, name: str) -> Signal:
    return register(m, value.as_signed() if is_signed else value, name)
