"""The faults: each with a bridge of its own, what it must set off, and how it is mended.

A scenario that sets off an alert which it names neither in `must` nor in `may` has failed; so has one
whose alert does not fire, or not resolve.
"""

from drill.scenarios.feed import Disconnected, Frames, Lists, Refused, Silent, Storm
from drill.scenarios.promise import Calm, Expiring, Full, Lost, Restarts
from drill.scenarios.sinks import Halted, Lagging, Letters, Outage, Twins

# In the order of the flow.
SCENARIOS = [
    Calm, Restarts, Expiring, Lost, Disconnected, Refused, Storm, Silent, Frames, Full, Halted, Outage, Lagging,
    Twins, Letters, Lists,
]
