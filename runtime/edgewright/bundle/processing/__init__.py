"""What happens before and after a model: the same numpy code where models are compiled and where they run."""

from .bound import ProcessingError as ProcessingError
from .pipeline import Processing as Processing
from .pipeline import model_manifest as model_manifest
from .pipeline import pipeline_of as pipeline_of
