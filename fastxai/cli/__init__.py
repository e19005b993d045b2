"""The command line: arguments -> configuration -> call. One command a file, no logic, nothing heavy at import.

Room for a command: a file with `NAME`, `HELP`, `add_arguments(parser)` and `execute(args) -> int`, listed in
`app.COMMANDS`; what needs torch is imported inside `execute`.
"""

from fastxai.cli.app import main

__all__ = ["main"]
