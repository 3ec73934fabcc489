"""Cut the library that is shipped with the model turbulent-displacement from the ensemble that library.toml describes.

Run as ``python analyses/turbulence/_library.py [ensemble.h5]`` after ``obsfit ensemble``; then write its checksum to
``models/obsfit_models/turbulence/SHA256SUMS``.
"""

import sys
from pathlib import Path

from obsfit_models.turbulence.displacement_files import read_ensemble
from obsfit_models.turbulence.library import cut_library, write_library

ROOT = Path(__file__).parents[2]
ENSEMBLE = ROOT / "results" / "turbulence-library" / "ensemble.h5"
LIBRARY = ROOT / "models" / "obsfit_models" / "turbulence" / "library.h5"

if __name__ == "__main__":
    ensemble = read_ensemble(sys.argv[1] if len(sys.argv) > 1 else ENSEMBLE)
    write_library(LIBRARY, cut_library(ensemble, mean_free_paths=8.0), overwrite=True)
