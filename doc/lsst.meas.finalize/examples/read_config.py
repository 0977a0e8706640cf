"""Read a stored configuration without the package it belongs to."""

import ast


def read_config(text: str) -> dict[str, object]:
    """Return the options of a dump by name, without executing it."""
    options: dict[str, object] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign):
            name = ast.unparse(statement.targets[0]).removeprefix("config.")
            try:
                options[name] = ast.literal_eval(statement.value)
            except ValueError:
                # Like float('nan'), which is no literal.
                options[name] = ast.unparse(statement.value)
    return options
