"""The subcommands: each module declares its options and runs them."""
