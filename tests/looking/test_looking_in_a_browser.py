"""The pages of `views` and `analyse` as a browser shows them. Collected where there is a Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from deit_fast.looking.analysis import analyse
from deit_fast.looking.views import show_views
from tests.report.browser import browser, opened
from tests.tiny_runs import with_options


@pytest.mark.slow
def test_pages_fit_a_phone_and_a_desk_without_complaints(digits: Path, distilled_run: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "views.html", tmp_path / "analysis.html"]
    options = {"data.train": str(digits / "train.beton"), "data.batch_size": 48, "data.resolution": 32, "data.num_workers": 1}
    show_views(with_options({**options, "views.html": str(pages[0])}))
    about = {"analyse.run": str(distilled_run), "analyse.html": str(pages[1]), "data.num_workers": 1}
    analyse(with_options({**about, "train.device": "cpu"}))
    with browser(tmp_path / "chromium") as page:
        for path in pages:
            for width in (400, 1200):
                opened(page, path, width)
        assert page.evaluate("document.querySelector('thead').rows[0].cells[0].textContent") == "Part"
        assert page.complaints == []
