# SPDX-License-Identifier: GPL-2.0-only
"""Jupyter kernels that are copies of the process that asks for them, and so have its imports.

papermill and nbclient drive them as they drive any other: `manager` makes the kernel manager that
they are given, whose provisioner hands a connection file to a process that waits for it. Only
where the process comes from differs: it has been forked, not executed.

Kernels are reached through Unix sockets: TCP ports are chosen before they are bound, and two
kernels that start together can be given the same.
"""

import asyncio
import multiprocessing
import os
import random
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# Longest path that a Unix socket may have anywhere, less what jupyter_client appends to the folder.
SOCKET_FOLDER_CHARS = 103 - len("/kernel-ipc-5")
# Seconds that a killed process has to be gone, before jupyter_client looks for itself.
GONE_S = 5
INLINE = "module://matplotlib_inline.backend_inline"


class WaitingKernel:
    """A forked process that becomes a kernel once told which; to jupyter_client, a Popen.

    Make it before the process that makes it has threads: a fork copies only its own.
    """

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        theirs, self._ours = context.Pipe(duplex=False)
        self._process = context.Process(target=_wait, args=(theirs, self._ours), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        """Make the process a kernel, as its command line, environment and folder say."""
        self._ours.send((list(argv), dict(env), cwd))
        self._ours.close()

    @property
    def pid(self) -> int:
        """The process id, which is its process group as well."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end, and return what `poll` does."""
        self._process.join(timeout_s)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it."""
        self._process.kill()


class _Provisioner(LocalProvisioner):
    # Starts the kernel that waits; everything else is what a kernel on this machine needs.

    def __init__(self, waiting: WaitingKernel, **options: Any) -> None:
        super().__init__(**options)
        self._waiting = waiting

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict:
        self.process = self._waiting
        self.pid = self.pgid = self._waiting.pid
        self.cwd = options.get("cwd")
        self._waiting.begin(cmd, options.get("env") or os.environ, self.cwd)
        return self.connection_info

    async def kill(self, restart: bool = False) -> None:
        await super().kill(restart)
        # Otherwise it is looked for every 0.1 s, and it is gone after a hundredth of that.
        if self.process:
            await asyncio.to_thread(self.process.wait, GONE_S)


class _Client(AsyncKernelClient):
    # The inherited `wait_for_ready` ends by listening 0.2 s to what earlier requests still say. A
    # kernel that has just begun had none, and nbclient reads no answer but that to its own.

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + (timeout or float("inf"))
        while True:
            self.kernel_info()
            try:
                await self.get_shell_msg(timeout=1)
                await self.get_iopub_msg(timeout=0.2)  # until it hears what the kernel publishes
                return
            except Empty:
                if not await self.is_alive():
                    raise RuntimeError("Kernel died before replying to kernel_info") from None
            if loop.time() > ends:
                raise RuntimeError(f"Kernel didn't respond in {timeout} seconds")


def manager(waiting: WaitingKernel, folder: Path) -> type[AsyncKernelManager]:
    """Return the class that makes `waiting` the kernel, whatever kernels the user has installed.

    Args:
        folder: where the connection file and the sockets go; one a kernel. If its path is too long
            for a socket, the kernel is reached through TCP.
    """

    class ForkedKernelManager(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(
                kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
                transport="ipc" if len(str(folder)) <= SOCKET_FOLDER_CHARS else "tcp",
                # Without a name, all sockets are named alike, in the current folder.
                connection_file=str(folder / "kernel.json"),
                client_class=f"{__name__}.{_Client.__name__}",
                **options,
            )
            self.provisioner = _Provisioner(waiting, kernel_spec=self.kernel_spec, parent=self)

    return ForkedKernelManager


# The rest runs in the process that becomes the kernel.


def _wait(told: Connection, teller: Connection) -> None:
    teller.close()  # then `told` ends when the other process does
    os.setsid()
    try:
        argv, env, cwd = told.recv()
    except EOFError:
        return
    told.close()
    os.environ.clear()
    os.environ.update(env)
    if cwd:
        os.chdir(cwd)
    _be_fresh()
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415 - only a kernel needs it

    # ipykernel ends when its parent does.
    arguments = argv[argv.index("ipykernel_launcher") + 1 :]
    IPKernelApp.launch_instance(arguments, parent_handle=os.getppid())


# What a process settles when it imports something, and a copy of it would have in common with all.
def _be_fresh() -> None:
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    os.environ.setdefault("MPLBACKEND", INLINE)
    if matplotlib := sys.modules.get("matplotlib"):
        matplotlib.rcParams["backend"] = os.environ["MPLBACKEND"]
