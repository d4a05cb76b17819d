"""The WaitBound: the longest that anybody is to wait, where waits are predicted."""

from server.errors import QueueFull

# A client told to come back sooner would mostly be told so again.
MIN_RETRY_AFTER_S = 1.0
# The share of those who wait long that is to be no later than allowed for; it is followed by steps of that share of the
# bound, and learnt from those who were predicted to wait for more than that share of it.
NEARLY_ALL, STEP, LONG_WAIT = 0.99, 0.001, 0.5
# Of the bound, so that some are still admitted who wait long: without them nothing would be learnt any more.
MOST = 0.4


class WaitBound:
    """Refuses who is predicted to wait for longer than `seconds`, and has that kept by nearly all whom it lets pass.

    For it follows a high quantile of the errors of the prediction, and allows for as much. They stand for what no
    prediction knows: gaps between runs, who joined them, processors that others use as well.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lateness_s = 0.0
        """How much later than predicted nearly all end who wait long."""

    def allows(self, predicted_s: float) -> bool:
        return predicted_s + self.lateness_s <= self.seconds

    def check(self, predicted_s: float, what: str) -> None:
        """Raise QueueFull for too long a wait; its sentence begins with `what` takes the time."""
        if not self.allows(predicted_s):
            wait_s = predicted_s + self.lateness_s
            retry_after_s = max(MIN_RETRY_AFTER_S, wait_s - self.seconds)
            raise QueueFull(f"{what} takes {wait_s:.1f} s already", retry_after_s)

    def learn(self, predicted_s: float, took_s: float) -> None:
        """Learn that something took so long; what was over soon says nothing about the bound."""
        if predicted_s > LONG_WAIT * self.seconds:
            late = took_s - predicted_s > self.lateness_s
            step = STEP * self.seconds * (NEARLY_ALL if late else NEARLY_ALL - 1)
            self.lateness_s = min(max(0.0, self.lateness_s + step), MOST * self.seconds)
