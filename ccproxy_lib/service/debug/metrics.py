"""What Prometheus gets: few series, whatever the number of VMs and sessions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ccproxy_lib import version
from ccproxy_lib.service.debug.census import REASONS, Census
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.status import traffic_of
from ccproxy_lib.state.counters import Counters, Histogram
from ccproxy_lib.state.session import State

KIND = CONTENT_TYPE_LATEST
STATES = tuple(state for state in State if state is not State.FREED)


class Metrics:
    """The metrics of one proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._build = {"version": version.VERSION, "commit": version.commit()}

    def scrape(self) -> bytes:
        """Return all metrics as text."""
        # Before the registry asks, as that goes on without a break.
        census = Census(self._proxy)
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(_Families(self._families(census)))
        return generate_latest(registry)

    def _families(self, census: Census) -> Iterator[Metric]:
        build = InfoMetricFamily("ccproxy_build", "What is running.", self._build)
        return itertools.chain(
            (build,),
            _now(self._proxy),
            _sessions(census),
            _since_start(self._proxy.counters),
            _traffic(self._proxy),
        )


class _Families(Collector):
    """Hands out what has been gathered."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _now(proxy: Proxy) -> Iterator[Metric]:
    limits, lag = proxy.limits, proxy.hub_lag
    yield GaugeMetricFamily("ccproxy_vms", "Registered VMs.", len(proxy.links))
    yield GaugeMetricFamily("ccproxy_vms_limit", "The value of -max-vms.", limits.max_vms)
    yield GaugeMetricFamily("ccproxy_clients", "Connected clients.", len(proxy.clients))
    yield GaugeMetricFamily(
        "ccproxy_clients_limit", "The value of -max-clients.", limits.max_clients
    )
    yield GaugeMetricFamily(
        "ccproxy_subscribers", "Clients that follow the events.", len(proxy.events)
    )
    yield GaugeMetricFamily(
        "ccproxy_hub_lag_seconds", "How late the newest timer fired.", lag.last_s
    )
    yield GaugeMetricFamily(
        "ccproxy_hub_lag_max_seconds", "How late a timer fired at worst.", lag.worst_s
    )


def _sessions(census: Census) -> Iterator[Metric]:
    states = {state.name.lower(): census.states[state] for state in STATES}
    yield _gauges("ccproxy_sessions", "Sessions by state.", "state", states)
    stuck = dict.fromkeys(REASONS, 0)
    for each in census.stuck:
        stuck[each.reason] += each.count
    yield _gauges("ccproxy_stuck", "What makes no progress, by reason.", "reason", stuck)
    yield _gauges(
        "ccproxy_output_buffered_bytes",
        "Output that shims have not taken, by where it is kept.",
        "place",
        {"memory": census.kept_bytes - census.spooled_bytes, "spool": census.spooled_bytes},
    )
    yield GaugeMetricFamily(
        "ccproxy_stdin_buffered_bytes",
        "Standard input that processes have not taken.",
        census.stdin_bytes,
    )
    yield GaugeMetricFamily(
        "ccproxy_sessions_full", "Sessions whose buffer and spool are full.", census.full
    )
    yield GaugeMetricFamily(
        "ccproxy_agent_commands_waiting",
        "Commands that are not sent yet, as their agent is busy.",
        census.commands_waiting,
    )
    yield GaugeMetricFamily(
        "ccproxy_agent_command_oldest_seconds",
        "How long the slowest agent has owed an answer.",
        census.oldest_command_s,
    )


def _since_start(counters: Counters) -> Iterator[Metric]:
    yield CounterMetricFamily("ccproxy_vms_registered", "VMs that were registered.", counters.vms)
    yield CounterMetricFamily(
        "ccproxy_clients_accepted", "Clients that have connected.", counters.clients
    )
    yield CounterMetricFamily(
        "ccproxy_sessions_created", "Sessions that were made.", counters.sessions
    )
    yield CounterMetricFamily("ccproxy_agent_commands", "Commands for agents.", counters.commands)
    yield _histogram(
        "ccproxy_agent_command_duration_seconds",
        "How long agents took to answer.",
        counters.command_seconds,
    )
    yield _counters(
        "ccproxy_deadlines_missed", "What came too late.", "deadline", counters.deadlines
    )
    yield _counters("ccproxy_refusals", "What clients were refused.", "reason", counters.refusals)
    yield _counters("ccproxy_drops", "What was thrown away.", "what", counters.drops)


def _traffic(proxy: Proxy) -> Iterator[Metric]:
    traffic = traffic_of(proxy)
    yield _counters(
        "ccproxy_stream_bytes",
        "Bytes of the processes' streams.",
        "direction",
        {"stdin": traffic.stdin_bytes, "output": traffic.output_bytes},
    )
    yield _counters(
        "ccproxy_stream_messages",
        "Messages of the processes' streams.",
        "direction",
        {"stdin": traffic.stdin_messages, "output": traffic.output_messages},
    )


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for each, value in values.items():
        family.add_metric((each,), value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for each, value in values.items():
        family.add_metric((each,), value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    totals = itertools.accumulate(histogram.counts)
    return HistogramMetricFamily(
        name, text, buckets=list(zip(bounds, totals, strict=True)), sum_value=histogram.sum_s
    )
