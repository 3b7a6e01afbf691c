"""From a graph to a stream program: passes with one job each.

fold (Affine into scale and bias), fuse (activation into its layer), quantise (tensor scales; scale and bias rounded to fp32),
place (memories and halves), emit (packets). `compile_graph` runs them all.
"""
