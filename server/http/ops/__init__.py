"""Routes for operators and browsers: health, limits, metrics and the page."""
