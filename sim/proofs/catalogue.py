"""All proofs, in the order in which they run."""

from sim.proofs.banked import banked_proofs
from sim.proofs.banked_column import banked_column_proofs
from sim.proofs.banked_edge import banked_edge_proofs
from sim.proofs.binary32 import binary32_proofs
from sim.proofs.column import column_proofs
from sim.proofs.drain_slots import drain_slots_proofs
from sim.proofs.element import element_proofs
from sim.proofs.lane import lane_proofs
from sim.proofs.miter import Proof
from sim.proofs.options import option_proofs
from sim.proofs.rounding import rounding_proofs
from sim.proofs.second import second_proofs
from sim.proofs.streams import stream_proofs
from sim.proofs.tech import tech_proofs


def proofs() -> list[Proof]:
    """Every proof; names are unique."""
    return [
        *element_proofs(),
        *column_proofs(),
        *rounding_proofs(),
        *binary32_proofs(),
        *lane_proofs(),
        *option_proofs(),
        *stream_proofs(),
        *second_proofs(),
        *tech_proofs(),
        *drain_slots_proofs(),
        *banked_edge_proofs(),
        *banked_proofs(),
        *banked_column_proofs(),
    ]
