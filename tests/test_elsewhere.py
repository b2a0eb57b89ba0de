"""visionkit on systems without what only POSIX has: importing it asks for none of it."""

import subprocess
import sys

PROGRAM = """
import os, signal, sys
import torch, torchvision, cv2, PIL.Image  # what these need is theirs to guard
POSIX_MODULES = ("fcntl", "grp", "pwd", "resource", "syslog", "termios")
POSIX_NAMES = ("fork", "getuid", "kill", "killpg", "mkfifo", "nice", "O_DIRECTORY", "sched_getaffinity", "setsid",
               "sysconf", "wait4")
SIGNALS = ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1")
import visionkit.cli
for name in POSIX_MODULES:
    sys.modules[name] = None  # any import of it now raises
for module, names in ((os, POSIX_NAMES), (signal, SIGNALS)):
    for name in names:
        vars(module).pop(name, None)
import importlib, pkgutil
names = [found.name for found in pkgutil.walk_packages(visionkit.__path__, "visionkit.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names) > 50)
"""


def test_every_module_is_imported_without_posix() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr[-2000:]) == ("True\n", "")
