"""Help on the command line, beside a process that imports what a fit needs."""

import subprocess
import sys

from case import Case

HEAVY = ("numpy", "astropy")
# The resource module would give the peak of the process that started this one: it survives exec on Linux.
END = """
from pathlib import Path
import resource
status = Path("/proc/self/status")
peak = [l.split()[1] for l in status.read_text().splitlines() if l.startswith("VmHWM")] if status.exists() else []
print(len(sys.modules), *(peak or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]), *sys.modules)
"""


def process(statement):
    """Return number of modules, peak memory in MiB and names of modules of a fresh interpreter."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n{END}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, kib, *names = run.stdout.strip().splitlines()[-1].split()
    return int(count), int(kib) / 1024, names


def help_text():
    return process("import obsfit.cli; obsfit.cli.main(['--help'])")


def imports():
    return process("import obsfit.infer")


def agree(light, heavy):
    """Whether help loads neither numpy nor astropy, which the other does load."""
    return not set(HEAVY) & set(light[2]) and set(HEAVY) <= set(heavy[2])


CASES = [
    Case(
        f"obsfit --help ({help_text()[0]} modules; the other {imports()[0]})", help_text, imports,
        "import obsfit.infer", repeats=7, agree=agree, memory=lambda route: route()[1],
    )
]  # fmt: skip
