"""From a graph to a stream program: the passes on graphs (`shiftforge.passes`), then place (memories and halves), emit (packets).

`compile_graph` runs them all.
"""
