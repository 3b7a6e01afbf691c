"""Runs the gateware against the golden model: runners, stimulus, cocotb benches and the compiled RTL as a transport."""
