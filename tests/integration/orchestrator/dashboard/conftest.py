from tests.dashboard import browser, page, served, settings

__all__ = ["browser", "page", "served", "settings"]
