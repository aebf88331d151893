"""Leaves out the tests in a browser where there is none: they come on top of those of the page's structure."""

from tests.report.browser import CHROMIUM

collect_ignore = [] if CHROMIUM else ["test_report_in_a_browser.py"]
