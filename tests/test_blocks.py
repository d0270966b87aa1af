"""Blocks keep Prefect's own standards."""

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite

import blocks


@pytest.mark.parametrize("block", [getattr(blocks, name) for name in blocks.__all__])
class TestBlocks(BlockStandardTestSuite):
    @pytest.mark.skip(reason="it fetches a picture from the network")
    def test_has_a_valid_image(self, block: type[Block]) -> None: ...
