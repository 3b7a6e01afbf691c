"""Feed: from the engine's reads to an element per row and cycle, skewed as the array needs them."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain, register
from hw.instance import Ports, Unit
from hw.row_feed import RowFeed, feed_step
from shiftforge import timing
from shiftforge.config import Config


class Feed(wiring.Component):
    """The banks' addresses, each bank's a cycle after the one before; the steps of row 0; a row feed for each row.

    The word of a block that row r needs is read in the block's cycle r; bank i is read i cycles later, and its element comes to
    the row's `code` ``timing.MEMORY_READ + timing.ROW_FEED`` after that.

    Parameters
    ----------
    config : Config
    resets : sequence of str, optional
        The domain that resets each row's feed.

    Attributes
    ----------
    units : tuple of Unit
        The row feed: instantiated here, emitted once by `hw.verilog`.

    Members
    -------
    address, zero, tail, load : In
        Of the read of this cycle, as in `hw.engine.Engine`.
    k_tail : In
        Elements of a tap's last word. Stable while a layer runs.
    whole : In(1), absent without `max_pool`
        Read all banks at once: words for `hw.pool.Pool`. Stable while a layer runs.
    bank_address_b : Out, one per bank b ; data : In(activation_word_bits)
        The element of bank b, ``timing.MEMORY_READ`` cycles after its address.
    code_r : Out(activation.bits), one per row r
    """

    def __init__(self, config: Config, resets: Sequence[str] | None = None):
        self.config = config
        self._resets = resets or ["sync"] * config.rows
        self._row = RowFeed(config)
        address, rows = range(config.activation_words), range(config.rows)
        super().__init__(
            {
                "address": In(address),
                "zero": In(1),
                "tail": In(1),
                "load": In(1),
                "k_tail": In(range(config.rows + 1)),
                **({"whole": In(1)} if config.max_pool else {}),
                "data": In(config.activation_word_bits),
                **{f"bank_address_{b}": Out(address) for b in rows},
                **{f"code_{r}": Out(config.activation.bits) for r in rows},
            }
        )

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self._row,)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.config.rows
        later: Value = self.address
        for b in range(rows):
            if b:
                later = register(m, later, f"address_{b}")
            address = Mux(self.whole, self.address, later) if self.config.max_pool and b else later
            m.d.comb += getattr(self, f"bank_address_{b}").eq(address)

        # Row 0's elements, from the cycle in which the first one leaves its bank.
        step = Signal(feed_step(self.config))
        first = chain(m, self.load, timing.MEMORY_READ - 1, "first")
        following = Signal(range(rows + 1))
        m.d.comb += [step.first.eq(first), following.eq(step.index + 1)]
        with m.If(first):
            m.d.sync += [step.live.eq(1), step.index.eq(0), step.beyond.eq(0)]
        with m.Elif(following == rows):
            m.d.sync += step.live.eq(0)
        with m.Else():
            m.d.sync += [step.index.eq(following), step.beyond.eq(following >= self.k_tail)]
        zero, tail = (
            chain(m, value, timing.MEMORY_READ - 1, name) for value, name in ((self.zero, "zero"), (self.tail, "tail"))
        )

        below: Value = step.as_value()
        for r in range(rows):
            feed = Ports(self._row, f"row_{r}", self._resets[r])
            m.submodules[f"row_{r}"] = feed.instance
            m.d.comb += [
                feed["step"].eq(below),
                feed["zero"].eq(zero),
                feed["tail"].eq(tail),
                feed["data"].eq(self.data),
                getattr(self, f"code_{r}").eq(feed["code"]),
            ]
            below = feed["step_out"]
        return m
