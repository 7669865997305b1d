# SPDX-License-Identifier: MIT
"""Prints, one a line, the files that Python needs to run some scripts: interpreter, modules, compiled modules.

Usage: python_files.py SCRIPT...
"""
import importlib.util
import os
import sys
from modulefinder import ModuleFinder

files = {os.path.realpath(sys.executable)}


def add(name):
    if not name or not os.path.isfile(name):
        return
    files.add(name)
    if name.endswith(".py"):
        compiled = importlib.util.cache_from_source(name)
        if os.path.isfile(compiled):
            files.add(compiled)


# What the interpreter imports by itself, and all encodings: those are chosen at run time.
for module in list(sys.modules.values()):
    add(getattr(module, "__file__", None))
encodings = os.path.dirname(sys.modules["encodings"].__file__)
for name in os.listdir(encodings):
    add(os.path.join(encodings, name))
for script in sys.argv[1:]:
    finder = ModuleFinder([os.path.dirname(script), *sys.path[1:]])
    finder.run_script(script)
    for module in finder.modules.values():
        add(module.__file__)
print("\n".join(sorted(files)))
