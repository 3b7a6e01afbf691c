"""The subcommands of `shiftforge`, one module each; `shiftforge.cli` names them."""
