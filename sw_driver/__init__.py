"""Compiler from a network to a stream program, the accelerator object and its checks."""
