//! Charts as inline SVG: lines over time, spreads on a logarithmic axis, stacked bars.
//!
//! Drawn by hand, since it is little and a library would draw pictures with colours of its own: these take theirs
//! from the page, so that they are light or dark as it is, and they grow and shrink with their column.

use std::fmt::Write;

use super::escaped;
use super::scale::{Scale, short};

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 34.0;

/// Height of a row in charts of rows.
const ROW: f64 = 22.0;
/// Room for the names of rows.
const NAMES: f64 = 250.0;
const ROWS_WIDTH: f64 = 820.0;

/// One value over another.
pub(super) struct LineChart<'a> {
    pub(super) title: &'a str,
    /// What is along the bottom, with its unit.
    pub(super) along: &'a str,
    pub(super) points: &'a [(f64, f64)],
    pub(super) logarithmic: bool,
    /// Whether each point is shown, as of few.
    pub(super) dots: bool,
}

impl LineChart<'_> {
    pub(super) fn svg(&self) -> String {
        let most = |pick: fn(&(f64, f64)) -> f64| self.points.iter().map(pick).fold(0.0, f64::max);
        let along = Scale::exactly(most(|point| point.0));
        let up = match self.logarithmic {
            true => Scale::logarithmic(self.points.iter().map(|point| point.1)),
            false => Scale::linear(most(|point| point.1)),
        };
        let x = |value: f64| LEFT + along.at(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - up.at(value) * (HEIGHT - TOP - BOTTOM);
        let mut svg = opened(WIDTH, HEIGHT, self.title);
        text(&mut svg, (LEFT, 16.0), "title", self.title);
        for mark in up.marks() {
            rule(&mut svg, (LEFT, y(mark)), (WIDTH - RIGHT, y(mark)));
            text(&mut svg, (LEFT - 6.0, y(mark) + 3.5), "mark end", &short(mark));
        }
        for mark in along.marks() {
            text(
                &mut svg,
                (x(mark), HEIGHT - BOTTOM + 14.0),
                "mark middle",
                &short(mark),
            );
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        text(&mut svg, (middle, HEIGHT - 5.0), "mark middle", self.along);
        let points: Vec<_> = self
            .points
            .iter()
            .map(|(at, value)| (x(*at), y(*value)))
            .collect();
        let line: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(svg, "<polyline class=\"line\" points=\"{}\"/>", line.join(" "));
        if self.dots {
            for ((x, y), (_, value)) in points.iter().zip(self.points) {
                let _ = write!(
                    svg,
                    "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>",
                    short(*value)
                );
            }
        }
        svg + "</svg>"
    }
}

/// Percentiles of one thing, from the smallest to the largest, with what each is called.
pub(super) struct SpreadRow {
    pub(super) name: String,
    pub(super) marks: [(&'static str, f64); 5],
}

/// Percentiles of several things, one below the other, on one logarithmic axis.
pub(super) fn spreads(title: &str, unit: &str, rows: &[SpreadRow]) -> String {
    let height = TOP + rows.len() as f64 * ROW + BOTTOM;
    let values = rows.iter().flat_map(|row| row.marks.iter().map(|mark| mark.1));
    let along = Scale::logarithmic(values);
    let x = |value: f64| NAMES + along.at(value) * (ROWS_WIDTH - NAMES - RIGHT - 8.0);
    let mut svg = opened(ROWS_WIDTH, height, title);
    text(&mut svg, (0.0, 16.0), "title", title);
    for mark in along.marks() {
        rule(&mut svg, (x(mark), TOP), (x(mark), height - BOTTOM));
        text(
            &mut svg,
            (x(mark), height - BOTTOM + 14.0),
            "mark middle",
            &short(mark),
        );
    }
    text(
        &mut svg,
        (f64::midpoint(NAMES, ROWS_WIDTH), height - 5.0),
        "mark middle",
        unit,
    );
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + (at as f64 + 0.5) * ROW;
        text(&mut svg, (NAMES - 10.0, y + 4.0), "name end", &row.name);
        let (first, last) = (x(row.marks[0].1), x(row.marks[4].1));
        let _ = write!(
            svg,
            "<line class=\"span\" x1=\"{first:.1}\" y1=\"{y:.1}\" x2=\"{last:.1}\" y2=\"{y:.1}\"/>"
        );
        for (index, (name, value)) in row.marks.iter().enumerate() {
            let _ = write!(
                svg,
                "<circle class=\"p{index}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"{}\"><title>{name} {} {unit}</title></circle>",
                x(*value),
                [6.0, 5.0, 5.0, 4.0, 3.0][index],
                short(*value)
            );
        }
    }
    svg + "</svg>"
}

/// Parts of a sum, of several things, one below the other.
pub(super) fn bars(title: &str, unit: &str, rows: &[(String, Vec<f64>)]) -> String {
    let height = TOP + rows.len() as f64 * ROW + BOTTOM;
    let most = rows
        .iter()
        .map(|row| row.1.iter().sum::<f64>())
        .fold(0.0, f64::max);
    let along = Scale::linear(most);
    let width = ROWS_WIDTH - NAMES - RIGHT - 50.0;
    let mut svg = opened(ROWS_WIDTH, height, title);
    text(&mut svg, (0.0, 16.0), "title", title);
    for mark in along.marks() {
        let x = NAMES + along.at(mark) * width;
        rule(&mut svg, (x, TOP), (x, height - BOTTOM));
        text(&mut svg, (x, height - BOTTOM + 14.0), "mark middle", &short(mark));
    }
    text(
        &mut svg,
        (f64::midpoint(NAMES, ROWS_WIDTH), height - 5.0),
        "mark middle",
        unit,
    );
    for (at, (name, parts)) in rows.iter().enumerate() {
        let y = TOP + at as f64 * ROW;
        text(&mut svg, (NAMES - 10.0, y + ROW / 2.0 + 4.0), "name end", name);
        let mut x = NAMES;
        for (index, part) in parts.iter().enumerate() {
            let long = along.at(*part) * width;
            let _ = write!(
                svg,
                "<rect class=\"part{index}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"{:.1}\">\
                 <title>{} {unit}</title></rect>",
                y + 4.0,
                ROW - 8.0,
                short(*part)
            );
            x += long;
        }
        text(
            &mut svg,
            (x + 5.0, y + ROW / 2.0 + 4.0),
            "mark",
            &short(parts.iter().sum()),
        );
    }
    svg + "</svg>"
}

fn opened(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    )
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, what: &str) {
    // Writing into a string cannot fail, here and above.
    let _ = write!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        escaped(what)
    );
}

fn rule(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = write!(
        svg,
        "<line class=\"rule\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}
