"""The operator's commands; they plug into `cloakwork` by entry point.

Each module gives `HELP`, `configure(parser)` and `run(arguments) -> exit status`.
"""
