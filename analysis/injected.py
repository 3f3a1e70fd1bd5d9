# SPDX-License-Identifier: GPL-2.0-only
"""The cell that papermill injects: which names it sets."""

import ast

# What papermill writes above the parameters that it injects.
INJECTED = "# Parameters"


def assigned_just_before(cells: list[str], names: set[str]) -> list[str]:
    """Return the names that the cell run just before this one assigns, beyond `names`.

    Only of the cell that papermill injects or the parameters cell itself: any other cell may set
    what it likes. `cells` are the texts of the cells run so far, this one last.
    """
    before = cells[-2] if len(cells) > 1 else ""
    try:
        body = ast.parse(before).body
    except (SyntaxError, ValueError):
        return []
    assigned = {name: None for statement in body for name in _targets(statement)}
    if not before.startswith(INJECTED) and not names <= set(assigned):
        return []
    return [name for name in assigned if name not in names]


def _targets(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
