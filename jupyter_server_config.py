# SPDX-License-Identifier: GPL-2.0-only
"""How the server of `make notebook` saves: notebooks/ stay as they are tracked, without outputs.

Elsewhere a notebook is saved as its reader left it.
"""


def strip(model, path, **_):
    """Take out of a notebook under notebooks/ what running it has left there."""
    if model["type"] != "notebook" or not path.strip("/").startswith("notebooks/"):
        return
    notebook = model["content"]
    # The reader's Python by version, and the state of all widgets, are no part of it.
    kernel = dict(notebook["metadata"].get("kernelspec", {}))
    language = notebook["metadata"].get("language_info", {}).get("name", "python")
    kernel["display_name"] = kernel.get("display_name", "").removesuffix(" (ipykernel)")
    notebook["metadata"] = {"kernelspec": kernel, "language_info": {"name": language}}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        # When a cell ran, how far its output is scrolled, that it is trusted.
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}


c.ContentsManager.pre_save_hook = strip  # noqa: F821 - traitlets gives its configuration as c
