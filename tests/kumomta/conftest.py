"""Whether this machine has the Lua that a stand-in for a KumoMTA node is made of."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session", autouse=True)
def _lua() -> None:
    """Skip, with the reason, where Lua 5.4 or a module is missing; never in CI, where everything must be there."""
    program = shutil.which("lua5.4")
    if program is None:
        missing = "lua5.4"
    else:
        tried = subprocess.run([program, "-e", "require 'cjson'; require 'socket.http'"], capture_output=True, check=False)
        missing = "lua-cjson or lua-socket" if tried.returncode else ""
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{missing} is not installed")
