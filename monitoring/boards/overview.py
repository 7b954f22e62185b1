"""The dashboard to look at first: what was lost, whether the promise is kept, then the flow.

The rows after the first are those of the flow: feed, normalise, journal, sinks, reconcile, dead letters.
"""

from boards.build import BLUE, GREEN, RED, YELLOW, board, lines, stat, states

ZERO_IS_GOOD = [(None, GREEN), (0.001, RED)]
HEARD = 'sum by (instance) (rate(@feed_frames_total{kind=~"event|rejected"}[$__rate_interval]))'
ACCOUNTED = (
    'sum by (instance) (rate(@normalise_events_total{origin="feed"}[$__rate_interval]))'
    " + sum by (instance) (rate(@normalise_duplicates_total[$__rate_interval]))"
    " + sum by (instance) (rate(@normalise_rejected_total[$__rate_interval]))"
)
EVENT_LAG = "histogram_quantile({}, sum by (le, sink) (rate(@sink_event_lag_seconds_bucket[$__rate_interval])))"

PROMISE = [
    stat("Events lost", "Events that were heard and lost in the time shown. It is 0 unless the operator chose to drop when the journal is full, or its file was damaged.", "short", "sum(increase(@events_lost_total[$__range]))", ZERO_IS_GOOD, decimals=0),
    stat("Feed", "Whether every bridge is subscribed to the vendor's feed at this moment.", "none", "min(@feed_connected)", [(None, RED), (1, GREEN)], mappings={"0": {"text": "not heard", "color": RED, "index": 0}, "1": {"text": "heard", "color": GREEN, "index": 1}}),
    stat("Not heard", "How long the feed was not heard in the time shown, all bridges together.", "s", "sum(increase(@feed_blind_seconds_total[$__range]))", [(None, GREEN), (60, YELLOW), (600, RED)], decimals=0),
    stat("Sinks delivering", "Share of the sinks that deliver at this moment.", "percentunit", 'avg(@sink_state{state="delivering"})', [(None, RED), (1, GREEN)], decimals=0),
    stat("Oldest undelivered", "Age of the oldest event that some sink lacks.", "s", "max(@sink_lag_seconds)", [(None, GREEN), (60, YELLOW), (300, RED)], decimals=0),
    stat("Late duplicates", "Events that arrived a second time, in the time shown.", "short", "sum(increase(@sink_late_duplicates_total[$__range]))", ZERO_IS_GOOD, decimals=0),
    stat("Journal full", "The fullest journal. At 100 % the feed is no longer read.", "percentunit", "max(@journal_bytes / @journal_capacity_bytes)", [(None, GREEN), (0.5, YELLOW), (0.8, RED)], decimals=0),
    stat("Dead letters", "What is set aside in the journals at this moment and waits for somebody to look at it.", "short", "sum(@dead_letters)", [(None, GREEN), (1, YELLOW)]),
    lines("Heard and accounted for", "Frames that were heard, and what became of them: events in the journal, repeats and rejected frames. The two lines lie on one another; a lasting distance is a defect.", "cps", ("heard {{instance}}", HEARD), ("accounted for {{instance}}", ACCOUNTED), width=12),
    lines("From the vendor's timestamp to the acknowledgement", "How long an event takes from the vendor's clock to the acknowledgement of the destination. A clock that is wrong on either side shows here.", "s", ("median {{sink}}", EVENT_LAG.format("0.5")), ("99 % {{sink}}", EVENT_LAG.format("0.99")), width=12),
]

FEED = [
    states("Subscribed", "Green while the feed is heard.", {"0": {"text": "not heard", "color": RED, "index": 0}, "1": {"text": "heard", "color": GREEN, "index": 1}}, ("{{instance}}", "@feed_connected"), width=8),
    lines("Frames", "Frames by their kind. Pings and pongs go on when nobody registers.", "cps", ("{{kind}}", "sum by (kind) (rate(@feed_frames_total[$__rate_interval]))")),
    lines("Since the last event", "Time since the feed last told of anybody.", "s", ("{{instance}}", "time() - (@feed_last_event_timestamp_seconds > 0)")),
    lines("Connections that ended, by reason", "Each is a blind window, if it had been subscribed. authentication, credential, subscription and limited need somebody to act.", "short", ("{{reason}}", "sum by (reason) (increase(@feed_reconnects_total[$__rate_interval]))"), bars=True),
    lines("Share of time not heard", "1 is a feed that is not heard at all.", "percentunit", ("{{instance}}", "rate(@feed_blind_seconds_total[$__rate_interval])")),
    lines("Until a certificate ends", "The first authority of feed.ca_file and reconcile.ca_file that is of no use any more.", "s", ("{{instance}}", "(@feed_certificate_expiry_timestamp_seconds > 0) - time()"), steps=[(None, RED), (1209600, GREEN)]),
    lines("Blind windows that wait for a list", "Spans in which the feed was not heard and which no list has repaired yet.", "short", ("{{instance}}", "@feed_blind_windows_unhealed")),
    lines("Sequence numbers", "Missing numbers are lost messages; the list repairs the final states. Numbers seen before are counted, and nothing is dropped for them.", "short", ("missing {{instance}}", "increase(@feed_sequence_missing_total[$__rate_interval])"), ("seen before {{instance}}", "increase(@feed_sequence_regressions_total[$__rate_interval])"), bars=True),
]

NORMALISE = [
    lines("Events into the journal", "Events by type, and whether the feed or the list told of them.", "cps", ("{{event_type}} {{origin}}", "sum by (event_type, origin) (rate(@normalise_events_total[$__rate_interval]))")),
    lines("Frames rejected, by reason", "Frames that could not become an event. Each is a dead letter.", "short", ("{{reason}}", "sum by (reason) (increase(@normalise_rejected_total[$__rate_interval]))"), bars=True),
    lines("Repeats and unknown fields", "Messages that repeat a user's last events, and fields that this version does not know.", "short", ("repeats {{instance}}", "increase(@normalise_duplicates_total[$__rate_interval])"), ("unknown fields {{instance}}", "increase(@normalise_unknown_fields_total[$__rate_interval])"), bars=True),
]

JOURNAL = [
    lines("Journal in use", "Share of journal.max_bytes. From 80 % on somebody is told, at 100 % the feed is no longer read.", "percentunit", ("{{instance}}", "@journal_bytes / @journal_capacity_bytes"), top=1, steps=[(None, GREEN), (0.8, RED)]),
    lines("Records in the journal", "What some sink lacks, and what is kept for journal.retention.", "short", ("{{instance}}", "@journal_records")),
    states("Takes no events", "Red while the journal takes no events: its limit, a full disk, or another process that holds it.", {"0": {"text": "no", "color": GREEN, "index": 0}, "1": {"text": "blocked", "color": RED, "index": 1}}, ("{{instance}} {{reason}}", "@journal_blocked"), width=8),
]

SINKS = [
    states("Sinks that do not deliver", "Red while a sink is halted, retrying or opening. A halted sink waits for an operator.", {"0": {"text": "no", "color": GREEN, "index": 0}, "1": {"text": "yes", "color": RED, "index": 1}}, ("{{instance}} {{sink}} {{state}}", '@sink_state{state=~"halted|retrying|opening"}')),
    lines("Age of the oldest undelivered event", "The first sign of a broker that is away. Somebody is paged when it passes 5 minutes and nothing moves.", "s", ("{{instance}} {{sink}}", "@sink_lag_seconds"), width=12, steps=[(None, GREEN), (300, RED)]),
    lines("Until a certificate ends", "The first that is of no use any more, of each sink. Somebody is told 14 days before.", "s", ("{{instance}} {{sink}}", "(@sink_certificate_expiry_timestamp_seconds > 0) - time()"), steps=[(None, RED), (1209600, GREEN)]),
    lines("Records undelivered", "Records in the journal that the sink lacks.", "short", ("{{instance}} {{sink}}", "@sink_lag_records")),
    lines("Published", "Records that the sink acknowledged.", "cps", ("{{instance}} {{sink}}", "rate(@sink_published_total[$__rate_interval])")),
    states("At least once", "Red where the destination cannot be asked what it holds, so that events may come twice after a crash.", {"0": {"text": "once", "color": GREEN, "index": 0}, "1": {"text": "at least once", "color": RED, "index": 1}}, ("{{instance}} {{sink}}", "@sink_at_least_once"), width=8),
    lines("Errors, by class", "configuration needs an operator; transient and fatal are tried again; record is a dead letter.", "short", ("{{sink}} {{class}}", "sum by (sink, class) (increase(@sink_errors_total[$__rate_interval]))"), bars=True),
]

RECONCILE = [
    lines("Lists, by outcome", "Comparisons with the vendor's list. Only success heals blind windows.", "short", ("{{outcome}}", "sum by (outcome) (increase(@reconcile_runs_total[$__rate_interval]))"), width=12, bars=True),
    lines("Events that only the list told of", "What the feed did not tell, and the list repaired.", "short", ("{{instance}}", "increase(@reconcile_differences_total[$__rate_interval])"), width=12, bars=True),
]

LETTERS = [
    lines("Set aside, by reason", "Frames and records that became dead letters. The reason sink is a refusal of a destination.", "short", ("{{reason}}", "sum by (reason) (increase(@dead_letters_total[$__rate_interval]))"), width=12, bars=True),
    lines("Dead letters kept", "The journal keeps 10,000; then the oldest makes room.", "short", ("{{instance}}", "@dead_letters"), width=12, steps=[(None, BLUE), (10000, RED)]),
]

OVERVIEW = board(
    "onboarding-bridge-overview",
    "Onboarding bridge / Overview",
    "Whether the bridge keeps its promise, and where in the flow it does not.",
    ("Internals", "onboarding-bridge-internals"),
    [("Promise and loss", PROMISE), ("Feed", FEED), ("Normalise", NORMALISE), ("Journal", JOURNAL), ("Sinks", SINKS), ("Reconcile", RECONCILE), ("Dead letters", LETTERS)],
)
