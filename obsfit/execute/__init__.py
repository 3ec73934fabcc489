"""Running many independent tasks: each is a pure function of its key, stored when done, never done twice."""

from obsfit.execute.random import child_generator
from obsfit.execute.tasks import Key, run_tasks

__all__ = ["Key", "child_generator", "run_tasks"]
