"""The dashboard for whoever looks for a cause: durations, sizes, the process itself.

Its rows are those of the flow, the process first. Nothing here says whether the promise is kept.
"""

from boards.build import GREEN, RED, YELLOW, board, heatmap, lines, stat, table


def quantiles(name, by):
    """Median and 99th percentile of a histogram, by the labels `by`."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    group = ", ".join(["le", *by])
    expr = f"histogram_quantile({{}}, sum by ({group}) (rate(@{name}_bucket[$__rate_interval])))"
    return (f"median {legend}", expr.format("0.5")), (f"99 % {legend}", expr.format("0.99"))


def buckets(name):
    return f"sum by (le) (rate(@{name}_bucket[$__rate_interval]))"


PROCESS = [
    table("What runs", "Each bridge and its version.", "@build_info", ["namespace", "job", "instance", "version"], width=8),
    stat("Youngest process", "Time since the last start of any bridge.", "s", "min(time() - @process_start_time_seconds)", [(None, YELLOW), (3600, GREEN)], width=4, decimals=0),
    stat("Descriptors in use", "Open files and sockets, as a share of what the process may open.", "percentunit", "max(@process_open_fds / @process_max_fds)", [(None, GREEN), (0.5, YELLOW), (0.8, RED)], width=4, decimals=0),
    lines("Processor", "Cores of the machine that the process uses.", "short", ("{{instance}}", "rate(@process_cpu_seconds_total[$__rate_interval])")),
    lines("Memory", "Resident memory. It is bounded, whatever the journal holds.", "bytes", ("{{instance}}", "@process_resident_memory_bytes")),
    lines("Address space", "Virtual memory; large, and of no importance unless it grows without end.", "bytes", ("{{instance}}", "@process_virtual_memory_bytes")),
    lines("Threads", "Threads of the process. librdkafka has some for each broker.", "short", ("{{instance}}", "@process_threads")),
]

FEED = [
    lines("Since the last frame", "Pings and pongs included. Above feed.idle_timeout the connection is given up.", "s", ("{{instance}}", "time() - (@feed_last_frame_timestamp_seconds > 0)")),
    lines("Requests left in this minute", "What the bridge's share of the vendor's limit still allows. A connect takes 3, a list 1.", "short", ("{{instance}}", "@feed_request_budget_remaining")),
    lines("Subscriptions confirmed, and gaps", "Each subscription and each run of missing numbers is followed by a list.", "short", ("subscribed {{instance}}", "increase(@feed_connects_total[$__rate_interval])"), ("gaps {{instance}}", "increase(@feed_sequence_gaps_total[$__rate_interval])"), bars=True),
]

JOURNAL = [
    lines("Time of a commit", "One transaction with its fsync. It bounds how fast events become durable.", "s", *quantiles("journal_commit_duration_seconds", ["instance"])),
    lines("Records in a commit", "Many records in each means that the disk is the bound.", "short", *quantiles("journal_commit_records", ["instance"])),
    lines("Commits", "Commits with or without records.", "cps", ("{{instance}}", "rate(@journal_commit_duration_seconds_count[$__rate_interval])")),
    heatmap("Time of a commit, all of them", "Where the commits lie. A second band far above the first is a disk that stalls.", "s", buckets("journal_commit_duration_seconds")),
    lines("Bytes of the journal", "Bytes in use and what may be used.", "bytes", ("in use {{instance}}", "@journal_bytes"), ("limit {{instance}}", "@journal_capacity_bytes"), width=12),
]

SINKS = [
    lines("Time of a batch", "From publishing a batch to its outcome.", "s", *quantiles("sink_publish_duration_seconds", ["sink"])),
    lines("Batches", "Batches with an outcome.", "cps", ("{{instance}} {{sink}}", "rate(@sink_publish_duration_seconds_count[$__rate_interval])")),
    lines("Since the last acknowledgement", "Or since the opening. It grows also where nothing is to be published.", "s", ("{{instance}} {{sink}}", "time() - (@sink_last_success_timestamp_seconds > 0)")),
    heatmap("From the vendor's timestamp to the acknowledgement, all events", "Where the events of the chosen sinks lie.", "s", buckets("sink_event_lag_seconds")),
    lines("Clients built anew", "After an error, or because a secret was changed.", "short", ("{{instance}} {{sink}}", "increase(@sink_restarts_total[$__rate_interval])"), width=6, bars=True),
    lines("Not published again, and notices dropped", "Records that the destination held already after an unknown outcome; notices that a side channel did not take.", "short", ("held {{instance}} {{sink}}", "increase(@sink_skipped_held_total[$__rate_interval])"), ("notices {{instance}} {{sink}}", "increase(@sink_notices_dropped_total[$__rate_interval])"), width=6, bars=True),
]

RECONCILE = [
    lines("Time of a list", "From the request to the last comparison.", "s", *quantiles("reconcile_duration_seconds", ["instance"]), width=12),
    lines("Since the last list that decided", "Time since a list was compared in full and healed what was not heard.", "s", ("{{instance}}", "time() - (@reconcile_last_success_timestamp_seconds > 0)")),
    heatmap("Time of a list, all of them", "A list that takes longer with each day is a number of users that grows.", "s", buckets("reconcile_duration_seconds")),
]

INTERNALS = board(
    "onboarding-bridge-internals",
    "Onboarding bridge / Internals",
    "Durations, sizes and the process, for whoever looks for a cause.",
    ("Overview", "onboarding-bridge-overview"),
    [("Process", PROCESS), ("Feed", FEED), ("Journal", JOURNAL), ("Sinks", SINKS), ("Reconcile", RECONCILE)],
)
