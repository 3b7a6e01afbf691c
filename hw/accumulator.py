"""The units that `config.accumulator` chooses."""

from hw.banked_column import BankedColumn
from hw.banked_edge import BankedEdge
from hw.banked_pe import BANKED_TOKEN, BUBBLE, BankedPE
from hw.column import Column
from hw.pe import PE
from hw.row_edge import RowEdge
from shiftforge.config import Config


def row_edge_of(config: Config) -> RowEdge | BankedEdge:
    """What an activation code passes before it enters a row."""
    return BankedEdge(config) if config.banked else RowEdge(config)


def element_of(config: Config) -> PE | BankedPE:
    """The processing element."""
    return BankedPE(config) if config.banked else PE(config)


def column_of(config: Config) -> Column | BankedColumn:
    """The column reader."""
    return BankedColumn(config) if config.banked else Column(config)


def idle_token(config: Config) -> int:
    """The token of a cycle in which nothing is issued, as it comes out of a reset."""
    return BANKED_TOKEN.const(BUBBLE).as_value().value if config.banked else 0
