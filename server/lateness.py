"""Lateness: how much later than predicted those end who wait long."""

# The share of them that is to be no later than this; it is followed by steps of that share of the bound, and learnt
# from those who were predicted to wait for more than that share of it.
NEARLY_ALL, STEP, LONG_WAIT = 0.99, 0.001, 0.5
# Of the bound, so that some are still admitted who wait long: without them nothing would be learnt any more.
MOST = 0.4


class Lateness:
    """Follows a high quantile of the errors of a prediction, so that a bound on it is kept by nearly all.

    It stands for what no prediction knows: gaps between runs, who joined them, processors that others use as well.
    """

    def __init__(self, bound_s: float) -> None:
        self.seconds = 0.0
        self._bound_s = bound_s

    def learn(self, predicted_s: float, took_s: float) -> None:
        """Learn that something took so long; what was over soon says nothing about the bound."""
        if predicted_s > LONG_WAIT * self._bound_s:
            late = took_s - predicted_s > self.seconds
            step = STEP * self._bound_s * (NEARLY_ALL if late else NEARLY_ALL - 1)
            self.seconds = min(max(0.0, self.seconds + step), MOST * self._bound_s)
