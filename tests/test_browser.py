# SPDX-License-Identifier: GPL-2.0-only
"""`make notebook`: where it listens, what it saves, and, in a real browser, its controls.

Chromium is installed where apt and root are there to do it; elsewhere those tests are skipped.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import chromium
import pytest

from analysis import report

ROOT = Path(__file__).parents[1]
CONFIG = "jupyter_server_config.py"
NOTEBOOK = ROOT / "notebooks" / "explore.ipynb"
CAPTURE = ROOT / "tests" / "captures" / "time_bash_default.txt"
MARKUP = "<img/src=x/onerror=window.ran=1>"  # a word, as a symbol is
HOSTILE = "<img src=x onerror=window.ran=1>.txt"
START_S = 120  # for JupyterLab, and for the first answer, which fits costs
FINDING = "document.querySelector('.reclaim-x h3').innerText"
FIGURE = "document.querySelector('.reclaim-x table').outerHTML"
SHOWN = "document.querySelector('.reclaim-x').innerText"


def recipe():
    """Return what `make notebook` runs once it is set up."""
    dry = ["make", "--no-print-directory", "--dry-run", "--old-file=.venv/ready", "notebook"]
    # Within a make that runs the tests this one would be its child, and say so.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    ran = subprocess.run(dry, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    said = ran.stdout
    (line,) = said.replace("\\\n", " ").strip().splitlines()
    return shlex.split(line)


def test_make_notebook_keeps_to_localhost_and_its_token():
    command = recipe()
    assert command[:3] == [".venv/bin/python", "-m", "jupyterlab"]
    assert "--ip=127.0.0.1" in command
    assert (ROOT / CONFIG).is_file()
    assert command[-1] == "notebooks/explore.ipynb"
    # Nothing else: neither a token or password of its own, nor another origin or address.
    own = {"--ip=127.0.0.1", f"--ServerApp.root_dir={ROOT}", f"--config={CONFIG}"}
    assert set(command[3:-1]) == own


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Make a place of its own, whose notebook may be written to."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    shutil.copy(NOTEBOOK, folder / "notebooks")
    shutil.copy(ROOT / CONFIG, folder)
    themes = folder / "settings" / "@jupyterlab" / "apputils-extension"
    themes.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (themes / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    return folder


@pytest.fixture(scope="module")
def server(checkout):
    """Run what `make notebook` runs, there, without opening a browser; return what it says."""
    places = {"CONFIG": "config", "DATA": "data", "RUNTIME": "run"}
    own = {f"JUPYTER_{name}_DIR": str(checkout / place) for name, place in places.items()}
    own |= {"IPYTHONDIR": str(checkout / "ipython")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(checkout / "settings")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(checkout / "workspaces")}
    command = [word.replace(str(ROOT), str(checkout)) for word in recipe()]
    more = ["--no-browser", "--ServerApp.port=0", "--LabApp.expose_app_in_browser=True"]
    more += ["--allow-root"] if os.geteuid() == 0 else []
    with (checkout / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, *command[1:], *more], cwd=checkout, env=os.environ | own, stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        yield told(running, checkout)
    finally:
        running.terminate()
        running.wait()


def told(running, checkout):
    end = time.monotonic() + START_S
    while time.monotonic() < end and running.poll() is None:
        for path in (checkout / "run").glob("jpserver-*.json"):
            try:
                said = json.loads(path.read_text())
                socket.create_connection((said["hostname"], said["port"])).close()
                return said
            except (ValueError, ConnectionError):  # it is still written, or does not listen yet
                pass
        time.sleep(0.1)
    pytest.fail((checkout / "log").read_text())


@pytest.fixture(scope="module")
def page(server, checkout):
    """Open the notebook and run all its cells."""
    chromium.need()
    with chromium.Page(checkout / "profile") as page:
        page.open(f"{server['url']}lab/tree/notebooks/explore.ipynb?token={server['token']}")
        # The list of cells and the kernel: cells run before it has started are run when it has.
        page.until("!!document.querySelector('.jp-Notebook .jp-Cell')", START_S)
        page.until("!!window.jupyterapp?.commands.hasCommand('notebook:run-all-cells')", START_S)
        page.until("document.body.innerText.includes('| Idle')", START_S)
        page.run("jupyterapp.commands.execute('notebook:run-all-cells')")
        page.until("!!document.querySelector('.reclaim-x h3')", START_S)
        page.run("document.querySelector('.widget-dropdown').scrollIntoView()")
        yield page


@pytest.fixture(autouse=True)
def looked_at(request, tmp_path):
    """Leave a picture of the page after each test that has one."""
    yield
    if "page" in request.fixturenames and chromium.found():
        request.getfixturevalue("page").screenshot(tmp_path / "page.png")


def focus(page, selector):
    page.run(f"document.querySelector({json.dumps(selector)}).focus()")


def test_the_server_wants_its_token(server):
    assert server["hostname"] == "127.0.0.1"
    assert len(server["token"]) >= 32
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server['url']}api/contents")
    refused.value.close()
    assert refused.value.code == 403


def contents(server, path, model=None):
    """Read, or write, through the server's contents API."""
    asked = urllib.request.Request(
        f"{server['url']}api/contents/{path}", method="PUT" if model else "GET",
        data=json.dumps(model).encode() if model else None,
        headers={"Authorization": f"token {server['token']}", "Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(asked) as answered:
        return json.load(answered)


def test_only_notebooks_of_the_workbook_are_saved_without_outputs(server, checkout):
    ran = json.loads(NOTEBOOK.read_text())
    ran["metadata"]["widgets"] = {"state": {}}
    ran["metadata"]["kernelspec"]["display_name"] += " (ipykernel)"
    for cell in ran["cells"]:
        cell["metadata"]["scrolled"] = True
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "ran"}]
            cell["execution_count"] = 1
    for path in ("notebooks/copy.ipynb", "my own.ipynb"):
        contents(server, path.replace(" ", "%20"), {"type": "notebook", "content": ran})
    assert (checkout / "notebooks" / "copy.ipynb").read_bytes() == NOTEBOOK.read_bytes()
    assert '"ran"' in (checkout / "my own.ipynb").read_text()
    contents(server, "notebooks/note.txt", {"type": "file", "format": "text", "content": "ran"})
    assert (checkout / "notebooks" / "note.txt").read_text() == "ran"


def test_jupyterlab_saves_the_notebook_as_it_was(page, checkout):
    saved = checkout / "notebooks" / "explore.ipynb"
    assert page.run("document.querySelectorAll('.jp-OutputArea-output').length") > 0
    page.run("jupyterapp.commands.execute('docmanager:save')")
    assert saved.read_bytes() == NOTEBOOK.read_bytes()
    assert page.run(FINDING).startswith("arm64, 64 KiB")


def test_a_control_redraws_the_figure(page):
    first, figure = page.run(FINDING), page.run(FIGURE)
    assert first.startswith("arm64, 64 KiB: unmap saves ")
    focus(page, ".widget-dropdown select")
    page.key("ArrowDown", number=40)
    page.until(f"{FINDING}.startsWith('x86_64, 64 KiB')")
    assert page.run(FIGURE) != figure
    page.key("ArrowUp", number=38)
    page.until(f"{FINDING} === {json.dumps(first)}")
    assert "circle" in page.run(FIGURE)


def test_the_slider_follows_the_arrow_keys(page):
    focus(page, ".noUi-handle")
    page.key("ArrowRight", number=39)
    page.until(f"{FINDING}.startsWith('arm64, 128 KiB')")
    page.key("ArrowLeft", number=37)
    page.until(f"{FINDING}.startsWith('arm64, 64 KiB')")


def test_jupyterlab_keeps_its_hands_off_the_keys_of_a_control(page):
    cells = page.run("document.querySelectorAll('.jp-Cell').length")
    focus(page, ".widget-dropdown select")
    page.key("x", "KeyX", 88, "x")  # cuts the cell, where a shortcut may; here it picks x86_64
    assert page.run("document.activeElement.tagName") == "SELECT"
    assert page.run("document.querySelectorAll('.jp-Cell').length") == cells
    page.until(f"{FINDING}.startsWith('x86_64')")
    page.key("ArrowUp", number=38)
    page.until(f"{FINDING}.startsWith('arm64')")


@pytest.mark.parametrize("key", [("Enter", "Enter", 13, "\r"), (" ", "Space", 32, " ")])
def test_a_key_copies_the_table(page, server, key):
    granted = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    page.call("Browser.grantPermissions", origin=server["url"].rstrip("/"), permissions=granted)
    said = "document.querySelector('.reclaim-x output').value"
    page.run("navigator.clipboard.writeText('')")
    page.run(f"{said} = ''")
    page.until("!document.querySelector('.reclaim-x button').disabled")
    focus(page, ".reclaim-x button")
    page.key(*key)
    page.until(f"{said} === 'Copied.'")
    copied = page.run("navigator.clipboard.readText()")
    assert copied == page.run("document.querySelector('.reclaim-x textarea').value")
    assert copied == report.commit_message(arches=("arm64",))


def test_what_takes_long_is_drawn_of_a_smaller_request_first(page):
    for name, value in (("Mapped", "10G"), ("Reclaimed", "8G"), ("Processes", "64")):
        fill(page, box(name), value)
    page.until(f"{SHOWN}.includes('of less than is asked for')")
    page.until(f"!{SHOWN}.includes('of less than is asked for')")
    assert "Reclaiming 8G of 10G, mapped by 64 processes" in page.run(SHOWN)
    for name, value in (("Processes", "1"), ("Reclaimed", "0.2G"), ("Mapped", "256M")):
        fill(page, box(name), value)
    page.until(f"{SHOWN}.includes('Reclaiming 0.2G of 256M;')")


def box(name):
    """Return the expression of the text box with a label."""
    labels = "[...document.querySelectorAll('.widget-label')]"
    return f"{labels}.find(l => l.innerText === '{name}').parentNode.querySelector('input')"


def fill(page, element, text):
    page.run(f"{element}.focus()")
    page.run(f"{element}.select()")
    page.call("Input.insertText", text=text)
    page.key("Enter", number=13, text="\r")


# What a capture holds, or why it is refused.
CAPTURES = {
    HOSTILE: (CAPTURE.read_text(), "measured (real) 131.0"),
    "profile.txt": (
        "  Function                               Hit    Time            Avg             s^2\n"
        "  --------                               ---    ----            ---             ---\n"
        "  try_to_unmap_one                      22943    1994458.7 us     86.9 us   65.5 us\n"
        f"  {MARKUP}  7  1.0 us  0.1 us  0.0 us\n",
        "measured 22,943",
    ),
    "markup.txt": (f"{MARKUP}\n" * 3, "found"),
    "photo.png": ("\x89PNG\r\n\x1a\n\0\0\0", "found"),
    "empty.txt": ("", "found"),
}


@pytest.mark.parametrize("how", ["path", "upload"])
@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_stands_beside_or_is_refused_and_is_text(page, checkout, how, name):
    text, seen = CAPTURES[name]
    (checkout / name).write_text(text, encoding="latin-1")
    if how == "path":
        fill(page, box("Your capture"), f"../{name}")
    else:
        fill(page, box("Your capture"), "")
        page.until(f"!{SHOWN}.includes('measured') && !document.querySelector('.refused')")
        focus(page, ".jupyter-button.widget-upload")
        page.upload(checkout / name)
    page.until(f"{SHOWN}.includes({json.dumps(seen)}) && {SHOWN}.includes({json.dumps(name)})")
    assert page.run("document.querySelectorAll('.reclaim-x img').length") == 0
    assert page.run("window.ran") is None
    assert "Traceback" not in page.run("document.body.innerText")
    assert page.run(FINDING).startswith("arm64, 64 KiB")
    fill(page, box("Your capture"), "../none")
    page.until(f"{SHOWN}.includes('No such file')")


def test_every_control_has_a_name(page):
    focus(page, ".noUi-handle")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("combobox", "MenuListPopup", "slider", "textbox", "spinbutton")
    shown = [n for n in nodes if not n["ignored"] and n["role"]["value"] in roles]
    names = {n["name"]["value"] for n in shown if n.get("name")}
    assert names >= {
        "Architecture", "W/o kernel", "W/ kernel", "LRU", "Folio order", "Or a mixture", "Mapped",
        "Reclaimed", "Processes", "Your capture", "Table for a commit message",
    }  # fmt: skip
