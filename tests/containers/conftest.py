"""The image, built once. Where there can be no containers the tests are left out, loudly; CI makes that an error."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.podman import Podman, build_base, build_image, missing, podman_in


@dataclass(frozen=True)
class Built:
    """The image under test, and the base that it was built on."""

    podman: Podman
    image: str
    base: str

    def run(self, *arguments: str, entrypoint: str | None = None) -> str:
        """stdout of a container that ends by itself, run as a job definition asks: read-only, no capability."""
        first = [f"--entrypoint={entrypoint}"] if entrypoint else []
        flags = ["--rm", "--network=host", "--read-only", "--cap-drop=all", "--ulimit=host"]
        return self.podman.run("run", *flags, *first, self.image, *arguments)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    if why := missing():
        said = f"==== CONTAINERS NOT TESTED: {why} ===="
        assert not os.environ.get("SEALIFT_REQUIRE_CONTAINERS"), said
        warnings.warn(said, stacklevel=1)
        pytest.skip("no containers here")
    folder: Path = tmp_path_factory.mktemp("podman")
    with podman_in(folder) as podman:
        base = build_base(podman)
        yield Built(podman, build_image(podman, base), base)
