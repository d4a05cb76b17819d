"""The hold: whether a run that is not full is better held for a moment."""

from collections.abc import Callable, Sequence

from server.scheduling.policy.arrival_forecast import ArrivalForecast
from server.scheduling.policy.choice import Choice
from server.scheduling.policy.device import Device

# A pause for a full run must raise the throughput by more than the forecast may be wrong.
WORTHWHILE = 1.03
# A wait may take so much longer than the forecast.
SLACK = 1.5


def batch_delay(run: Choice, device: Device, returns: ArrivalForecast, now: float) -> tuple[float, int] | None:
    """Seconds for which the run is better held for more tiles, and how many tiles end the wait; None: start it.

    Held only where answered clients are expected back so soon that waiting for them costs less than the run of their
    own which it saves; never longer than that run's fixed cost, the time it was held already included.
    """
    padded_shape, count, start_s = run.bucket.padded_shape, run.count, device.remaining_s(now)
    room = device.room(padded_shape)
    if count >= room or count < len(run.bucket):  # full, or cut: more than it takes is here already
        return None
    out = returns.out(padded_shape, now)
    out += [(-start_s, len(batch.tiles)) for batch in device.running if batch.padded_shape == padded_shape]
    if not out:
        return None
    end_s = start_s + run.seconds
    more = round(returns.expected(out, 0.0, end_s))
    joined = min(count + more, room)
    if joined == count:
        return None
    together = device.predict(padded_shape, joined)
    saving = run.seconds + device.predict(padded_shape, joined - count) - together
    longest = start_s + saving - device.held_s(now)
    if run.bucket.head.deadline is not None:
        longest = min(longest, run.bucket.head.deadline - now - together)
    moments = returns.moments(out, longest)
    if count + more <= room:
        moment = _best(moments, start_s, saving, lambda moment: returns.probability_of_none(out, moment, end_s))
    else:
        # Two runs in any case: full ones with a pause between them, or a small and a large one without.
        at_once = (count + more) / (run.seconds + device.predict_all(padded_shape, more))
        full = (moment for moment in moments if returns.expected(out, 0.0, moment) >= room - count)
        pauses = ((moment, max(0.0, moment - start_s)) for moment in full)
        moment = next((moment for moment, pause in pauses if room / (pause + together) > WORTHWHILE * at_once), None)
    # The tile that completes the run ends the wait; the slack is for it to be a little later than ever before.
    return None if moment is None else (min(longest, SLACK * moment), joined)


def _best(moments: Sequence[float], start_s: float, saving: float, alone: Callable[[float], float]) -> float | None:
    """The moment up to which waiting gains most, if any; `alone`: the chance that nobody comes from then on until a
    run that is not held would end."""
    at_once = alone(start_s)
    gains = [(saving * (alone(moment) - at_once) - max(0.0, moment - start_s), moment) for moment in moments]
    gain, moment = max(gains, default=(0.0, 0.0))
    return moment if gain > 0 else None
