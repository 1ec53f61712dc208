"""Run a module as `python -m` does, with no folder of the app in front of Python's own.

The present folder is left out by -P; the folders of the variable PYTHONPATH go to the end, and come
back in hornbeam_erlang._worker.loader once a worker has imported what it needs. What is imported
here is built in or frozen. It is a file because Python 3.13 imports linecache for a `-c`.

Where the interpreter has no such package it ends as a shell does that finds no command.
"""

import os
import sys

given = os.getenv("PYTHONPATH", "").split(os.pathsep)
late = {os.path.abspath(folder) for folder in given}  # noqa: PTH100 - as Python makes it
sys.path.sort(key=lambda folder: folder in late)

import importlib.util  # noqa: E402
import runpy  # noqa: E402

if importlib.util.find_spec(sys.argv[1].partition(".")[0]) is None:
    sys.exit(127)

runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
