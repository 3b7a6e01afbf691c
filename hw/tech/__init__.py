"""Technology modules: small units that a design instantiates by name, so that a target may bring its own implementation."""
