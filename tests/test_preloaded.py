"""A program that a test run forks is a child of the test, and ends with it."""

import signal
import subprocess
import sys
from pathlib import Path

from tests import ROOT, preloaded
from tests.mta.processes import owned, session_members, wait_until

SHOWN = "import os, sys; print(os.getcwd(), os.environ['SHOWN'], os.getsid(0) == os.getpid(), sys.argv[1:]); sys.exit(3)"
DYING = """\
import os, signal, sys
from pathlib import Path
from tests import preloaded
from tests.mta.processes import owned
os.environ[preloaded.USER] = str(os.getpid())
with open(sys.argv[1], "wb") as output:
    print(owned([sys.executable, "-c", "import time; time.sleep(600)"], output=output).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_status_folder_environment_and_arguments(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        process = owned([sys.executable, "-c", SHOWN, "run", "-v"], folder=tmp_path, environ={"SHOWN": "shown"}, output=output)
    assert isinstance(process, preloaded.Forked)
    assert process.wait(timeout=120) == 3
    assert (tmp_path / "output").read_text() == f"{tmp_path} shown True ['run', '-v']\n"


def test_variables_of_the_linker_and_of_python_count(tmp_path: Path) -> None:
    for variables in ({"LD_LIBRARY_PATH": "/"}, {"PYTHONOPTIMIZE": "1"}):
        with (
            (tmp_path / "output").open("wb") as output,
            owned([sys.executable, "-c", ""], environ=variables, output=output) as process,
        ):
            assert not isinstance(process, preloaded.Forked)


def test_it_ends_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DYING, str(tmp_path / "output")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not session_members(int(done.stdout)), "it has ended")
