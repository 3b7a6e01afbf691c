"""Convolutions over an input of few channels: the host lays out what each output pixel reads.

An activation word holds `rows` channels of one pixel. A first layer reads an image of 1 or 3 channels, so that every tap would
take a whole word of mostly nothing: on 16 rows, 7 x 7 taps of 3 channels take 784 cycles, where 147 products fit 10 words, 160.
"""

from dataclasses import replace
from math import prod

from shiftforge.config import Config, ceil_div
from shiftforge.graph import Conv, Graph, Node, Unfold, Window
from shiftforge.packets import word_stride_bits
from sw_driver import layout


def unfolded(graph: Graph, config: Config) -> Graph:
    """The graph with an `Unfold` of the input before each convolution that is then done sooner, its loads included.

    The sums are the same, term by term; a layer keeps its name. What is compared are the cycles of one example: those of all its
    tiles, those in which its input arrives, and where only the unfolded input does not fit a page, those in which the result leaves
    and comes back.
    """
    source = graph.input.name
    nodes: list[Node] = []
    unfolds: list[Unfold] = []
    for node in graph:
        if isinstance(node, Conv) and node.source == source and _pays(config, graph, node):
            unfolds.append(Unfold(f"{node.name}.patches", source, node.window))
            node = replace(node, source=unfolds[-1].name, window=Window.of((1,) * node.window.axes))
        nodes.append(node)
    return Graph((nodes[0], *unfolds, *nodes[1:])) if unfolds else graph


def _pays(config: Config, graph: Graph, node: Conv) -> bool:
    if node.groups != 1 or node.window.positions == 1 or node.on_host:
        return False
    *image, channels = graph.shapes[node.source]
    *output, features = graph.shapes[node.name]
    pixels, read = prod(output), prod(image)
    tiles = ceil_div(pixels, config.rows) * layout.n_tiles(config, features) * node.terms * config.rows
    positions = node.window.positions
    beats = ceil_div(word_stride_bits(config.activation_word_bits), config.stream_bits)

    def cost(taps: int, width: int, loaded: int) -> tuple[int, int]:
        words = layout.k_words(config, width)
        return loaded * words, tiles * taps * words + loaded * words * beats

    (here, direct), (there, through) = cost(positions, channels, read), cost(1, positions * channels, pixels)
    if here <= layout.page_words(config) < there:
        through += 2 * pixels * layout.k_words(config, features) * beats
    return through < direct
