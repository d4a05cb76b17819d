"""The sizing page: its tables are those that the counts give, and it says that nothing was measured."""

import pytest
from doc_scripts import doc_script

pytest.importorskip("torch", reason="counts on torch's meta device (extra `pytorch`)")
pytest.importorskip("triton", reason="counts fused kernels too (extra `fused`)")


def test_the_tables_of_traffic_and_throughput_are_the_counted_ones() -> None:
    script = doc_script("sizing_tables")
    page = script.SIZING.read_text()
    for row in (*script.traffic_rows(), *script.throughput_rows()):
        assert row in page, "run `make monitoring`"


def test_the_page_says_that_its_figures_are_calculated() -> None:
    assert "calculated; none has been measured" in doc_script("sizing_tables").SIZING.read_text()
