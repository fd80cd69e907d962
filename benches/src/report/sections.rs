//! The sections of the page: scenarios, single stages, peers, growth.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::chart::{LineChart, SpreadRow, bars, spreads};
use super::escaped;
use super::model::{Course, Document, Figure, Growth, Measured, Peers, Work};
use super::scale::short;
use crate::spread::median;

const KEY_OF_PERCENTILES: &str = "<p class=\"key soft\"><span><i class=\"p0\"></i>p50</span>\
    <span><i class=\"p1\"></i>p90</span><span><i class=\"p2\"></i>p99</span><span><i class=\"p3\"></i>p99.9</span>\
    <span><i class=\"p4\"></i>max</span></p>";

const KEY_OF_CPU: &str = "<p class=\"key soft\"><span><i class=\"part0\"></i>server</span>\
    <span><i class=\"part1\"></i>load generator</span><span><i class=\"part2\"></i>everybody else on the machine \
    (brokers, and whatever has nothing to do with it)</span></p>";

pub(super) fn scenarios(document: &Document, history: &[Value]) -> String {
    let all = &document.scenarios;
    let (open, closed): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.report.open_loop);
    let mut text = String::from(
        "<p>Each scenario has a server of its own with a new data directory; load generator, server and broker share \
         the cores. In an <b>open loop</b> requests begin at times that do not depend on the server, and latency \
         counts from there. In a <b>closed loop</b> a connection sends when it has its answer: that measures \
         throughput, and its times are times of service, no claim about latency.</p>",
    );
    text += &table(all);
    for (title, some) in [
        ("Latency from the intended start, open loop", open),
        ("Times of service, closed loop", closed),
    ] {
        if !some.is_empty() {
            let rows: Vec<_> = some.iter().map(|one| latency(one)).collect();
            let _ = write!(text, "<div class=\"wide\">{}</div>", spreads(title, "ms", &rows));
        }
    }
    text += KEY_OF_PERCENTILES;
    let cpu = |one: &Measured| (one.name.clone(), one.cpu_per_million().to_vec());
    // A request for each event costs so much more that the others could not be told apart beside it.
    let (one_by_one, many): (Vec<&Measured>, Vec<_>) = all
        .iter()
        .partition(|one| one.report.requests >= one.report.accepted);
    for (title, some) in [
        ("Processor time for a million events, many in a request", many),
        (
            "Processor time for a million events, one in a request",
            one_by_one,
        ),
    ] {
        if !some.is_empty() {
            let rows: Vec<_> = some.into_iter().map(cpu).collect();
            let chart = bars(title, "CPU seconds", &rows);
            let _ = write!(text, "<div class=\"wide\">{chart}</div>");
        }
    }
    text += KEY_OF_CPU;
    for one in all {
        text += &scenario(one, history);
    }
    text
}

fn latency(one: &Measured) -> SpreadRow {
    let latency = &one.report.latency;
    SpreadRow {
        name: one.name.clone(),
        marks: [
            ("p50", latency.p50_ms),
            ("p90", latency.p90_ms),
            ("p99", latency.p99_ms),
            ("p99.9", latency.p99_9_ms),
            ("max", latency.max_ms),
        ],
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = String::from(
        "<div class=\"wide\"><table><thead><tr><th>scenario<th>loop<th>events/s<th>MB/s<th>p50<br>ms<th>p90<br>ms\
         <th>p99<br>ms<th>p99.9<br>ms<th>max<br>ms<th>fdatasync<br>p50 ms<th>fdatasync<br>p99 ms\
         <th>p99 in<br>fdatasyncs<th>visible to<br>SQL, p99 ms<th>memory<br>peak MiB<th>lag at<br>the end, s\
         <th>CPU s/M<br>server<th>CPU s/M<br>load</tr></thead><tbody>",
    );
    for one in all {
        let (report, latency) = (&one.report, &one.report.latency);
        let class = if report.open_loop { "" } else { " class=\"closed\"" };
        let lag = match one.lag_gone_s {
            Some(seconds) => format!("{seconds:.2}"),
            None if one.is_behind() => "&gt; 120".to_owned(),
            None => "–".to_owned(),
        };
        let [server, load, _] = one.cpu_per_million();
        let optional = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
        let _ = write!(
            text,
            "<tr><td>{}<td>{}<td>{}<td>{:.1}",
            escaped(&one.name),
            if report.open_loop { "open" } else { "closed" },
            grouped(report.events_per_second),
            report.megabytes_per_second
        );
        for value in [
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.p99_9_ms,
            latency.max_ms,
        ] {
            let _ = write!(text, "<td{class}>{value:.2}");
        }
        for value in [
            one.fdatasync_ms.map(|sync| sync.p50),
            one.fdatasync_ms.map(|sync| sync.p99),
            one.p99_in_syncs(),
            one.visible_ms.map(|visible| visible.p99),
        ] {
            let _ = write!(text, "<td>{}", optional(value));
        }
        let memory = one.rss_anon_peak as f64 / f64::from(1 << 20);
        let _ = write!(text, "<td>{memory:.0}<td>{lag}<td>{server:.2}<td>{load:.2}</tr>");
    }
    text + "</tbody></table></div>"
}

/// A whole number with thin spaces between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// One scenario's course, and its p99 in all recorded runs.
fn scenario(one: &Measured, history: &[Value]) -> String {
    let mut text = format!(
        "<h3>{}</h3><p class=\"soft\">{}",
        escaped(&one.name),
        escaped(&one.about)
    );
    let report = &one.report;
    let _ = write!(
        text,
        " {} events in {} requests, {} rejected, {} sent again after 429 or 503.",
        short(report.accepted as f64),
        short(report.requests as f64),
        short(report.rejected as f64),
        short(report.retries as f64)
    );
    if report.open_loop {
        let _ = write!(
            text,
            " The latest request began {:.1} ms after its intended start.",
            report.late_ms_max
        );
    }
    text += "</p><div class=\"grid\">";
    let mut draw = |title: &str, points: &[(f64, f64)]| {
        let chart = LineChart {
            title,
            along: "seconds",
            points,
            logarithmic: false,
            dots: false,
        };
        text += &chart.svg();
    };
    let course = &one.course;
    let points: Vec<_> = course.iter().map(|at| (at.at_s, at.events_per_second)).collect();
    draw("Throughput, events/s", &points);
    let lags: Vec<_> = course
        .iter()
        .filter_map(|at| Some((at.at_s, at.lag_records? as f64)))
        .collect();
    if !lags.is_empty() {
        draw("Lag of the sink, records", &lags);
    }
    let memory = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let points: Vec<_> = course.iter().map(|at| (at.at_s, memory(at.rss_anon))).collect();
    draw("Anonymous memory, MiB", &points);
    let recorded = recorded_p99(&one.name, history);
    if recorded.len() > 1 {
        let chart = LineChart {
            title: "p99 in the recorded runs, ms",
            along: "run, oldest first",
            points: &recorded,
            logarithmic: true,
            dots: true,
        };
        text += &chart.svg();
    }
    text + "</div>"
}

/// The p99 of a scenario in each recorded run that has it, by the run's number from 1.
pub(super) fn recorded_p99(name: &str, history: &[Value]) -> Vec<(f64, f64)> {
    let runs = history.iter().filter_map(|line| {
        let scenario = &line["scenarios"][name];
        scenario["report"]["latency"]["p99_ms"].as_f64()
    });
    runs.enumerate().map(|(at, p99)| ((at + 1) as f64, p99)).collect()
}

pub(super) fn criterion(medians: &Map<String, Value>) -> String {
    if medians.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<p>Medians of the last criterion run in this build directory; criterion's own pages lie in \
         <code>target/criterion</code>.</p><div class=\"wide\"><table><thead><tr><th>bench<th>median</tr></thead><tbody>",
    );
    for (name, median) in medians {
        let nanoseconds = median.as_f64().unwrap_or_default();
        let told = match nanoseconds {
            1e9.. => format!("{} s", short(nanoseconds / 1e9)),
            1e6.. => format!("{} ms", short(nanoseconds / 1e6)),
            _ => format!("{} µs", short(nanoseconds / 1e3)),
        };
        let _ = write!(text, "<tr><td>{}<td>{told}</tr>", escaped(name));
    }
    text + "</tbody></table></div>"
}

pub(super) fn peers(peers: &Peers) -> String {
    let mut text = String::from(
        "<p>The same work by us and by others, in turns, in one run on one machine. Medians of the rounds; the ratio is \
         the median of the rounds' ratios of us to the best of the others in the same round.</p>",
    );
    let mut group = "";
    for work in &peers.works {
        if work.group != group {
            if !group.is_empty() {
                text += "</tbody></table></div>";
            }
            group = &work.group;
            let _ = write!(
                text,
                "<h3>{}</h3><div class=\"wide\"><table><thead><tr><th>work<th class=\"left\">who<th>median\
                 <th>least<th>most<th>CPU s<th>CPU s of<br>others<th>us ÷<br>best other<th>CPU, us ÷<br>best other<th class=\"left\">settings</tr></thead><tbody>",
                escaped(group)
            );
        }
        text += &work_rows(work);
    }
    if !group.is_empty() {
        text += "</tbody></table></div>";
    }
    text
}

fn work_rows(work: &Work) -> String {
    let mut text = String::new();
    for (at, side) in work.sides.iter().enumerate() {
        let name = if at == 0 {
            escaped(&work.name)
        } else {
            String::new()
        };
        let least = side.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = side.rounds.iter().copied().fold(0.0, f64::max);
        let figures = match &side.trouble {
            Some(trouble) => format!("<td colspan=\"3\" class=\"bad left\">{}", escaped(trouble)),
            None => format!(
                "<td>{} {}<td>{}<td>{}",
                short(median(&side.rounds)),
                escaped(&work.unit),
                short(least),
                short(most)
            ),
        };
        let ratio = match (at, work.ratio()) {
            (0, Some(ratio)) => {
                let good = (ratio <= 1.0) == work.less_is_better;
                format!(
                    "<b class=\"{}\">{ratio:.2}</b>",
                    if good { "good" } else { "bad" }
                )
            }
            _ => String::new(),
        };
        let cpu = work.cpu_ratio().filter(|_| at == 0);
        let cpu = cpu.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let _ = write!(
            text,
            "<tr><td>{name}<td class=\"left\">{}{figures}<td>{}<td>{}<td>{ratio}<td>{cpu}<td class=\"left soft\">{}</tr>",
            escaped(&side.name),
            short(median(&side.cpu_seconds)),
            match side.others_cpu_seconds.is_empty() {
                true => "–".to_owned(),
                false => short(median(&side.others_cpu_seconds)),
            },
            escaped(&side.settings)
        );
    }
    text
}

pub(super) fn growth(growth: &Growth) -> String {
    let mut text = String::from(
        "<p>What things cost when there is more of something. <b>Flat</b>: at most doubled from the smallest size to \
         the largest. Why others grow is written down in <code>benches/README.md</code>.</p>",
    );
    text += "<div class=\"wide\"><table><thead><tr><th>more<th class=\"left\">figure<th class=\"left\">size: value\
             <th>factor of sizes<th>factor of values<th></tr></thead><tbody>";
    for figure in &growth.figures {
        text += &growth_row(figure);
    }
    text += "</tbody></table></div><div class=\"grid\">";
    for figure in growth
        .figures
        .iter()
        .filter(|figure| figure.points.iter().any(|point| point.1 > 0.0))
    {
        let points: Vec<_> = figure
            .points
            .iter()
            .map(|(size, value)| (size.log10(), *value))
            .collect();
        let chart = LineChart {
            title: &format!("{}: {}, {}", figure.of, figure.name, figure.unit),
            along: &format!("{}, power of ten", figure.of),
            points: &points,
            logarithmic: true,
            dots: true,
        };
        text += &chart.svg();
    }
    text + "</div>"
}

fn growth_row(figure: &Figure) -> String {
    let points = figure.points.iter();
    let points: Vec<_> = points
        .map(|(size, value)| format!("{}: {}", short(*size), short(*value)))
        .collect();
    let (sizes, values) = figure.factors().unwrap_or_default();
    let course = figure.course();
    let class = if course == Some(Course::Linear) {
        "bad"
    } else {
        "good"
    };
    format!(
        "<tr><td>{}<td class=\"left\">{}, {}<td class=\"left\">{}<td>{}<td>{}<td class=\"left {class}\">{}</tr>",
        escaped(&figure.of),
        escaped(&figure.name),
        escaped(&figure.unit),
        points.join(" · "),
        short(sizes),
        short(values),
        course.map_or("", Course::name)
    )
}
