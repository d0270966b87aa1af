"""Blocks keep Prefect's own standards."""

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from blocks.model_ladder import ModelLadder


class TestModelLadder(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return ModelLadder

    @pytest.mark.skip(reason="it fetches a picture from the network")
    def test_has_a_valid_image(self, block: type[Block]) -> None: ...
