"""A program that prints its environment and dies: a tool server that cannot start, as it is met."""

import os
import sys

sys.stdout.write(f"starting with {dict(os.environ)}\n")
sys.stdout.flush()
sys.exit(f"cannot start: {dict(os.environ)}")
