from obsfit import errors as errors
from obsfit import plot as plot
from obsfit import sky as sky
from obsfit.composition import add_models as add_models
from obsfit.infer.emcee_runner import run_emcee as run_emcee
from obsfit.infer.likelihood import Likelihood as Likelihood
from obsfit.infer.posterior import Posterior as Posterior
from obsfit.infer.result import FitResult as FitResult
from obsfit.ingest.catalogue import available_data as available_data
from obsfit.ingest.catalogue import load_dipoles as load_dipoles
from obsfit.ingest.catalogue import load_projection as load_projection
from obsfit.ingest.catalogue import load_spectra as load_spectra
from obsfit.ingest.catalogue import load_spectrum as load_spectrum
from obsfit.observatory import Observatory as Observatory
from obsfit.operators import operator_for as operator_for
from obsfit.parameters import Parameter as Parameter
from obsfit.plugins import available_models as available_models
from obsfit.plugins import load_model as load_model
from obsfit.records import DipoleMeasurements as DipoleMeasurements
from obsfit.records import PowerSpectrum as PowerSpectrum
from obsfit.records import TrueSky as TrueSky

__all__: list[str]
__version__: str
