"""The garbage collector of a process that works on rows: what it need not look at, and how often it looks."""

import gc

# A page of rows is alive all at once: to look at it after every 700 new objects, as Python does by itself, finds
# nothing and takes a third of a row's CPU. What is in no cycle is given back at once, whatever stands here.
NEW_OBJECTS = 50_000


def look_rarely() -> None:
    """For a process that has yet to import: all of that stays, and looking at it took a quarter of the start."""
    gc.set_threshold(NEW_OBJECTS)


def settle() -> None:
    """Take all that is there now, which is mostly what was imported, to stay; look for garbage less often."""
    gc.collect()
    gc.freeze()
    look_rarely()
