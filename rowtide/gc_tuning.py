"""Tune Python's garbage collector for a process that works on rows: collect rarely, freeze what was imported.

At the end nobody is told what it left.
"""

import atexit
import gc
import os
import sys

# A page of rows is alive all at once: to look at it after every 700 new objects, as Python does by itself, finds
# nothing and takes a third of a row's CPU. What is in no cycle is given back at once, whatever stands here.
NEW_OBJECTS = 50_000
IMPORTED = 1_000_000  # Great Expectations makes so many


def collect_rarely() -> None:
    """Collect garbage rarely in a process that has yet to import: what it imports stays, and examining it took a
    quarter of the start-up time.
    """
    gc.set_threshold(IMPORTED)


def freeze_imported_objects() -> None:
    """Freeze all objects that exist now, mostly imported ones, and collect garbage less often.

    It is not looked through for garbage: that takes a quarter of a second, and finds a few thousand objects.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def freeze_once() -> None:
    """Freeze all objects that exist now, unless this process has done so. It does not ask Python how many are frozen:
    counting takes a seventh of a second.
    """
    if gc.get_threshold()[0] != NEW_OBJECTS:
        freeze_imported_objects()


def _say_no_more() -> None:
    """DuckDB's binding lists what is left of it as leaked, straight to stderr, once Python is gone.

    Something always is: what is frozen stays to the end, as to thaw it takes more than a second of CPU, and other
    libraries hold on to modules too. Nobody can act on the list.
    """
    if "duckdb" in sys.modules:
        if sys.stderr:
            sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


# Whatever is registered later is called earlier, and is heard.
atexit.register(_say_no_more)
