"""What the layers of a compiled graph need of the machine, whatever memory it has."""

from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.graph import Concat, Conv, Layer, MaxPool, Unfold
from sw_driver.compiler.reading import Reading, geometry_of, image_of, reading_of
from sw_driver.compiler.units import NotPlaced, Units


def readings_of(config: Config, units: Units) -> dict[str, Reading]:
    """How each layer and max-pool reads the tensor before it, by name.

    `NotPlaced` where the machine of this configuration does not run it; the sentence has the key that mends it.
    """
    return {
        node.name: _reading(config, units, node)
        for node in units.nodes
        if not (isinstance(node, Concat | Unfold) or (isinstance(node, Layer) and node.on_host))
    }


def _reading(config: Config, units: Units, node: Layer | MaxPool) -> Reading:
    stored, logical = units.stored(node.source), units.graph.shapes[node.source]
    if isinstance(node, MaxPool):
        if not config.max_pool:
            raise NotPlaced(f"max-pool {node.name!r} needs array.max_pool = true in the configuration")
        height, width, channels = image_of(stored)
        try:
            if stored != logical:
                raise InputError(f"it reads pixels of the shape {logical}, which lie on chip as {stored}")
            return Reading(height, width, channels, geometry_of(node.window, height, width))
        except InputError as error:
            raise NotPlaced(f"max-pool {node.name!r} does not fit its addresses: {error}") from None
    if node.k_bias is not None:
        raise NotPlaced(f"layer {node.name!r} has an exponent bias per K index, which needs array.k_bias_bits")
    if node.residual:
        if not config.residual:
            raise NotPlaced(
                f"layer {node.name!r} adds the residual {node.residual!r}, which needs array.residual = true in the configuration"
            )
        own, added = units.image(node.name), units.image(units.roots[node.residual])
        if own != added:
            raise NotPlaced(
                f"layer {node.name!r} makes pixels of the shape {own} and adds {node.residual!r}, which lies on chip as {added}"
            )
    if isinstance(node, Conv) and node.groups != 1 and not config.weights.mask:
        raise NotPlaced(
            f"layer {node.name!r} has {node.groups} groups (or is an average), which needs array.mask = true in the configuration"
        )
    try:
        return reading_of(node, stored, logical)
    except InputError as error:
        raise NotPlaced(f"layer {node.name!r} does not fit its addresses: {error}") from None
