"""Processing elements as blocks: one is placed in a rectangle of tiles, and all of an array lie in a grid of such rectangles.

`netlist` reads and writes what yosys and nextpnr exchange, `fabric` knows the tiles of a device, `graph` holds the cells of one
element, `anneal` places them, `elements` finds the elements of an array and writes them into its netlist, each in its place,
`read_out` finds the bits of the columns' read-out that they host. Pure Python; `sim.route` calls the tools.
"""
