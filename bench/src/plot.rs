//! Plots as SVG text: bars with their spread, and a grid of coloured ratios.
//!
//! Owns no numbers: it draws what it is given. Every text is escaped.

use crate::spread::Spread;
use std::fmt::Write;

const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";
const COLOURS: [&str; 8] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222222"];

/// One group of bars: its label, and a bar per series.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) bars: Vec<Spread>,
}

/// Bars in groups, a colour per series, with a line from the least to the most.
pub(crate) fn bars(title: &str, unit: &str, series: &[String], groups: &[Group]) -> String {
    const BAR: f64 = 26.0;
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 70.0;
    const TOP: f64 = 40.0;
    let group_width = BAR * (series.len() as f64 + 1.0);
    let width = LEFT + group_width * groups.len() as f64 + 200.0;
    let all = groups.iter().flat_map(|group| &group.bars);
    let most = all.map(|bar| bar.max).filter(|max| max.is_finite()).fold(0.0, f64::max).max(1e-9);
    let y = |value: f64| TOP + HEIGHT * (1.0 - (value / most).clamp(0.0, 1.0));
    let mut svg = open(width, TOP + HEIGHT + 50.0, title);
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        let at = y(value);
        line(&mut svg, LEFT, at, width - 200.0, at, "#dddddd");
        text(&mut svg, LEFT - 6.0, at + 4.0, "end", &number(value));
    }
    text(&mut svg, LEFT, TOP - 8.0, "start", unit);
    for (at, group) in groups.iter().enumerate() {
        let left = LEFT + group_width * at as f64 + BAR / 2.0;
        for (series, bar) in group.bars.iter().enumerate().filter(|(_, bar)| bar.median.is_finite()) {
            let x = left + BAR * series as f64;
            let (top, bottom) = (y(bar.median), y(0.0));
            let colour = COLOURS[series % COLOURS.len()];
            rectangle(&mut svg, x, top, BAR - 4.0, bottom - top, colour);
            let middle = x + (BAR - 4.0) / 2.0;
            line(&mut svg, middle, y(bar.min), middle, y(bar.max), "#000000");
        }
        text(&mut svg, left + group_width / 2.0 - BAR, TOP + HEIGHT + 18.0, "middle", &group.label);
    }
    for (at, name) in series.iter().enumerate() {
        let top = TOP + 18.0 * at as f64;
        rectangle(&mut svg, width - 185.0, top, 12.0, 12.0, COLOURS[at % COLOURS.len()]);
        text(&mut svg, width - 168.0, top + 11.0, "start", name);
    }
    svg + "</svg>\n"
}

/// A grid of ratios: green up to 1, over yellow to red at `bad` and above; grey where there is none.
pub(crate) fn grid(title: &str, rows: &[String], columns: &[String], ratios: &[Vec<f64>], bad: f64) -> String {
    const CELL: f64 = 80.0;
    const LEFT: f64 = 110.0;
    const TOP: f64 = 60.0;
    let width = (LEFT + CELL * columns.len() as f64 + 20.0).max(480.0);
    let mut svg = open(width, TOP + CELL * rows.len() as f64 + 20.0, title);
    for (at, name) in columns.iter().enumerate() {
        text(&mut svg, LEFT + CELL * (at as f64 + 0.5), TOP - 10.0, "middle", name);
    }
    for (row, (name, ratios)) in rows.iter().zip(ratios).enumerate() {
        let top = TOP + CELL * row as f64;
        text(&mut svg, LEFT - 8.0, top + CELL / 2.0 + 4.0, "end", name);
        for (column, ratio) in ratios.iter().enumerate() {
            let left = LEFT + CELL * column as f64;
            rectangle(&mut svg, left, top, CELL - 3.0, CELL - 3.0, &heat(*ratio, bad));
            let label = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
            text(&mut svg, left + CELL / 2.0, top + CELL / 2.0 + 4.0, "middle", &label);
        }
    }
    svg + "</svg>\n"
}

fn heat(ratio: f64, bad: f64) -> String {
    if !ratio.is_finite() {
        return "#cccccc".to_owned();
    }
    let heat = ((ratio - 1.0) / (bad - 1.0)).clamp(0.0, 1.0);
    // Hue 120 is green, 0 red.
    format!("hsl({:.0},60%,70%)", 120.0 * (1.0 - heat))
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

fn open(width: f64, height: f64, title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" {FONT}>\n"
    );
    rectangle(&mut svg, 0.0, 0.0, width, height, "#ffffff");
    text(&mut svg, 10.0, 18.0, "start", title);
    svg
}

// Writing to a String can't fail: the results below are dropped.

fn rectangle(svg: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str) {
    let _ =
        writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>");
}

fn line(svg: &mut String, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str) {
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>");
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags nest and close, attributes are quoted and finite, no stray `<` or `&`.
    fn check(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            assert!(!rest[..start].contains('>'), "text: {}", &rest[..start]);
            let bare = rest[..start].replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            assert!(!bare.contains('&'), "text: {bare}");
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
                continue;
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
            if !tag.ends_with('/') {
                open.push(tag.split(' ').next().expect("a name"));
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        assert!(svg.starts_with("<svg "));
    }

    #[test]
    fn svgs_are_well_formed() {
        let spread = |median: f64| Spread { median, min: median * 0.9, max: median * 1.1 };
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let groups = [
            Group { label: "50 <x> 1".to_owned(), bars: vec![spread(120_000.0), spread(2e6)] },
            Group { label: "a & b".to_owned(), bars: vec![spread(f64::NAN), spread(0.0)] },
        ];
        check(&bars("t < u", "requests & more", &names(&["one", "two"]), &groups));
        check(&bars("", "", &[], &[]));
        let ratios = vec![vec![0.9, 1.05], vec![f64::NAN, 3.0]];
        check(&grid("g", &names(&["1", "2"]), &names(&["a", "b"]), &ratios, 1.1));
    }
}
