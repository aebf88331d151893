"""The page as a browser shows it: from a file, without a network. Collected where there is a Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.browser import browser, opened
from tests.report.made_up_runs import bench_eval, make_run, report

TOP1 = "[...document.querySelector('tbody').rows].map(row => row.cells[2].textContent).join()"
SORTED_BY = "[...document.querySelector('thead').rows[0].cells].map(head => head.ariaSort).join()"
HEAD = "thead th:nth-child(3) button"


@pytest.mark.slow
def test_page_sorts_by_a_click_and_fits_a_phone(tmp_path: Path) -> None:
    long = "a-run-whose-name-has-no-place-to-be-broken-" * 3
    names = [("low", 9.5), (long, 100.0), ("<img src=x onerror=alert(1)>", 30.0)]
    runs = [make_run(tmp_path / name, top1=top1 - 4, options={"run.dollars_per_hour": 2}) for name, top1 in names]
    file = bench_eval(tmp_path / "eval.json", ("deit_tiny", "fp32", 1, 900.0))
    html = tmp_path / "page.html"
    begun = make_run(tmp_path / "begun", finished=False, epochs=0)
    report(begun, *runs, file, html=str(html), published=("paper", "deit3"), target=("top1=20",))
    with browser(tmp_path / "chromium") as page:
        opened(page, html, 1200)
        assert page.evaluate(TOP1) == "–,9.50 %,100.00 %,30.00 %"
        assert page.evaluate(SORTED_BY) == ",".join(["none"] * 13)
        page.click(HEAD)
        assert page.evaluate(TOP1) == "9.50 %,30.00 %,100.00 %,–"  # as numbers, and what is not known last
        assert page.evaluate(SORTED_BY).startswith("none,none,ascending,none,")
        page.evaluate(f"document.querySelector('{HEAD}').focus()")
        page.press("Enter", 13, "\r")
        assert page.evaluate(TOP1) == "100.00 %,30.00 %,9.50 %,–"
        assert page.evaluate(SORTED_BY).startswith("none,none,descending,none,")
        page.click("thead th:nth-child(1) button")
        assert page.evaluate(TOP1) == "–,9.50 %,100.00 %,30.00 %"
        opened(page, html, 400)
        assert page.complaints == []
