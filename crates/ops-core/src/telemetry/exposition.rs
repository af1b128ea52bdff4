//! A period for scrapers.

use super::{Period, Times};

/// OpenMetrics text, ended by `# EOF`: `ops_events` (a gauge: events of the period) and `ops_operation_seconds` (a
/// summary with quantiles 0.5, 0.95 and 0.99) by `name`.
///
/// A counter would have to rise for as long as the process lives; a period is what happened in it.
pub fn openmetrics(period: &Period) -> String {
    let service = escape(&period.service);
    let labels = |name: &str| format!("service=\"{service}\",name=\"{}\"", escape(name));
    let mut text = "# TYPE ops_events gauge\n# HELP ops_events Events in the period.\n".to_owned();
    for (name, count) in &period.counts {
        text.push_str(&format!("ops_events{{{}}} {count}\n", labels(name)));
    }
    text.push_str(
        "# TYPE ops_operation_seconds summary\n# UNIT ops_operation_seconds seconds\n\
         # HELP ops_operation_seconds How long operations took in the period.\n",
    );
    for (name, times) in &period.times {
        text.push_str(&summary(&labels(name), times));
    }
    text.push_str("# EOF\n");
    text
}

fn summary(labels: &str, times: &Times) -> String {
    let seconds = |ms: f64| ms / 1000.0;
    let mut lines = String::new();
    for (quantile, ms) in [("0.5", times.p50_ms), ("0.95", times.p95_ms), ("0.99", times.p99_ms)] {
        let value = seconds(ms);
        lines.push_str(&format!("ops_operation_seconds{{{labels},quantile=\"{quantile}\"}} {value}\n"));
    }
    let sum = seconds(times.mean_ms) * times.count as f64;
    lines.push_str(&format!("ops_operation_seconds_sum{{{labels}}} {sum}\n"));
    lines.push_str(&format!("ops_operation_seconds_count{{{labels}}} {}\n", times.count));
    lines
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Recorder;
    use std::time::Duration;

    #[test]
    fn a_scraper_reads_every_figure() {
        let at = |second| chrono::DateTime::from_timestamp(second, 0).unwrap();
        let recorder = Recorder::new("shop \"1\"", at(0));
        recorder.count("order.placed", 3);
        recorder.observe("checkout", Duration::from_millis(250));
        recorder.observe("checkout", Duration::from_millis(250));
        insta::assert_snapshot!(super::openmetrics(&recorder.close(at(60))));
    }
}
