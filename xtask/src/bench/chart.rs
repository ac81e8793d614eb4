//! A bar chart as SVG text: one bar a contender, its figure behind it. Pure.

use std::fmt::Write as _;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    /// Whose.
    pub(super) label: String,
    /// How long.
    pub(super) value: f64,
    /// What stands behind it.
    pub(super) figure: String,
    /// The product's own.
    pub(super) ours: bool,
}

const WIDTH: f64 = 760.0;
/// Where bars begin; labels stand before it.
const LEFT: f64 = 220.0;
/// Kept free behind the longest bar for its figure.
const RIGHT: f64 = 150.0;
const TOP: f64 = 56.0;
const ROW: f64 = 34.0;
const BAR: f64 = 22.0;

/// Draws bars to one scale that begins at zero.
pub(super) fn draw(title: &str, remark: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|it| it.value).fold(f64::MIN_POSITIVE, f64::max);
    let height = bars.iter().fold(TOP + 14.0, |sum, _| sum + ROW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{0}\" font-family=\"system-ui, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" font-weight=\"600\" fill=\"#1b1f24\">{0}</text>\n\
         <text x=\"16\" y=\"43\" font-size=\"12\" fill=\"#57606a\">{1}</text>\n\
         <line x1=\"{LEFT}\" y1=\"{TOP}\" x2=\"{LEFT}\" y2=\"{2}\" stroke=\"#8c959f\"/>\n",
        escaped(title),
        escaped(remark),
        height - 12.0
    );
    let mut y = TOP + 4.0;
    for bar in bars {
        let length = (bar.value / longest * (WIDTH - LEFT - RIGHT)).max(1.0);
        let fill = if bar.ours { "#0969da" } else { "#afb8c1" };
        let weight = if bar.ours { "600" } else { "400" };
        let (baseline, end) = (y + 16.0, LEFT + length + 8.0);
        write!(
            svg,
            "<text x=\"{}\" y=\"{baseline}\" font-size=\"13\" text-anchor=\"end\" font-weight=\"{weight}\" fill=\"#1b1f24\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{fill}\"/>\n\
             <text x=\"{end:.1}\" y=\"{baseline}\" font-size=\"13\" font-weight=\"{weight}\" fill=\"#1b1f24\">{}</text>\n",
            LEFT - 10.0,
            escaped(&bar.label),
            escaped(&bar.figure)
        )
        .expect("a String takes all that is written");
        y += ROW;
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room_and_the_others_are_to_scale() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, figure: String::new(), ours: false };
        let svg = draw("a & b", "", &[bar("<long>", 40.0), bar("short", 10.0)]);
        let widths: Vec<f64> = svg
            .lines()
            .filter(|it| it.contains("height=\"22\""))
            .filter_map(|it| it.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths, [390.0, 97.5]);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;long>") && svg.ends_with("</svg>\n"));
    }
}
