from pathlib import Path

import pytest

from tests.bundle.samples import pack_sample


@pytest.fixture(scope="session")
def sample_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid archive; tests only read it."""
    return pack_sample(tmp_path_factory.mktemp("sample"))[0]
