"""Routes for operators and browsers: health, limits, metrics, the page."""
