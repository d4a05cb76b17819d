"""The batch delay: whether a run that is not full waits for tiles that are about to arrive."""

from collections.abc import Callable, Sequence

from server.scheduling.policy.arrival_forecast import Forecast
from server.scheduling.policy.device import DeviceView, Wait
from server.scheduling.queue.tile_queue import BucketView

# Waiting for a full run must raise the throughput by more than the forecast may be wrong.
WORTHWHILE = 1.03
# A wait may take this many times as long as forecast: the tile that completes the run may be a little late.
SLACK = 1.5


def batch_delay(
    bucket: BucketView, count: int, seconds: float, device: DeviceView, forecast: Forecast, now: float
) -> Wait | None:
    """Decide how long a run of `count` tiles of the only bucket waits for more of them; None: it starts at once.

    It waits only if clients that were just answered are expected back so soon that the wait costs less time than the
    extra run that it saves. All waits for one run together are never longer than the fixed cost of that extra run.
    """
    padded_shape, start_s = bucket.padded_shape, device.remaining_s
    room = device.room(padded_shape)
    if count >= room or count < bucket.tiles:  # full, or cut: more tiles wait than it takes
        return None
    running = [(-start_s, images) for shape, images in device.running if shape == padded_shape]
    forecast = Forecast((*forecast.answers, *running), forecast.turnarounds) if running else forecast
    if not forecast.answers:
        return None
    end_s = start_s + seconds
    more = round(forecast.expected(0.0, end_s))
    joined = min(count + more, room)
    if joined == count:
        return None
    together = device.predict(padded_shape, joined)
    saving = seconds + device.predict(padded_shape, joined - count) - together
    longest = start_s + saving - device.delayed_s
    if bucket.deadline is not None:
        longest = min(longest, bucket.deadline - now - together)
    moments = forecast.moments(longest)
    if count + more <= room:
        moment = _best(moments, start_s, saving, lambda moment: forecast.probability_of_none(moment, end_s))
    else:
        # Two runs in any case: full ones with a pause between them, or a small and a large one without.
        at_once = (count + more) / (seconds + device.predict_all(padded_shape, more))
        full = (moment for moment in moments if forecast.expected(0.0, moment) >= room - count)
        pauses = ((moment, max(0.0, moment - start_s)) for moment in full)
        moment = next((moment for moment, pause in pauses if room / (pause + together) > WORTHWHILE * at_once), None)
    return None if moment is None else Wait(min(longest, SLACK * moment), padded_shape, joined)


def _best(moments: Sequence[float], start_s: float, saving: float, alone: Callable[[float], float]) -> float | None:
    """Return the moment until which waiting gains most, if any gains.

    `alone` gives the probability that no tile arrives between a moment and the end of a run that starts at once.
    """
    at_once = alone(start_s)
    gains = [(saving * (alone(moment) - at_once) - max(0.0, moment - start_s), moment) for moment in moments]
    gain, moment = max(gains, default=(0.0, 0.0))
    return moment if gain > 0 else None
