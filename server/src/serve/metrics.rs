//! Metrics: one recorder for the process, read as Prometheus text by `GET /metrics`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How often histograms are folded together, so that they do not grow between two scrapes.
pub(super) const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds of latency buckets in seconds: factors of about two, from below an fsync up to a slow query.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    30.0, 60.0,
];

/// Upper bounds of size buckets in bytes.
const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Upper bounds of row count buckets.
const ROWS: &[f64] = &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7];

static RECORDER: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();

/// The process's recorder, installed at the first call; a process has one, however many servers it starts.
pub(super) fn recorder() -> Result<PrometheusHandle, String> {
    RECORDER.get_or_init(install).clone()
}

fn install() -> Result<PrometheusHandle, String> {
    let buckets = [
        (Matcher::Suffix("_seconds".to_owned()), SECONDS),
        (Matcher::Suffix("_bytes".to_owned()), BYTES),
        (Matcher::Suffix("_rows".to_owned()), ROWS),
    ];
    let mut builder = PrometheusBuilder::new();
    for (matcher, bounds) in buckets {
        builder = builder
            .set_buckets_for_metric(matcher, bounds)
            .map_err(|error| format!("set metric buckets: {error}"))?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|error| format!("install the metrics recorder: {error}"))?;
    Ok(handle)
}
