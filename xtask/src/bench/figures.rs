//! Figures of several measurements: medians, spreads, and how numbers are written. Pure.

use super::Measure;

/// A figure of several measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Figure {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (values.first(), values.last()) else { return Self::default() };
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median, least, most }
    }

    /// The median, and the spread where there is one.
    pub(super) fn show(&self, digits: usize) -> String {
        let median = format!("{:.digits$}", self.median);
        if (self.most - self.least).abs() < f64::EPSILON {
            return median;
        }
        format!("{median} ({:.digits$}–{:.digits$})", self.least, self.most)
    }
}

/// One line of the table.
pub(super) struct Line {
    pub(super) name: String,
    /// It has a bar in the plots.
    pub(super) plotted: bool,
    pub(super) ours: bool,
    pub(super) per_cpu_second: Figure,
    pub(super) per_second: Figure,
    pub(super) wall: Figure,
    pub(super) cpu: Figure,
    pub(super) postgres_cpu: Figure,
    pub(super) temporal_cpu: Figure,
    pub(super) peak_mib: Figure,
    /// All CPU that moves records, source left out.
    pub(super) all_cpu: Figure,
}

impl Line {
    /// Of some measurements of the same number of records.
    pub(super) fn of(name: &str, ours: bool, plotted: bool, records: u64, measures: &[Measure]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let records = records as f64;
        let figure = |value: &dyn Fn(&Measure) -> f64| Figure::of(measures.iter().map(value));
        Self {
            name: name.to_owned(),
            ours,
            plotted,
            per_cpu_second: figure(&|it| records / it.cpu.max(0.01)),
            per_second: figure(&|it| records / it.wall),
            wall: figure(&|it| it.wall),
            cpu: figure(&|it| it.cpu),
            postgres_cpu: figure(&|it| it.postgres_cpu),
            temporal_cpu: figure(&|it| it.temporal_cpu),
            peak_mib: figure(&|it| mib(it.peak_kib)),
            all_cpu: figure(&|it| it.cpu + it.postgres_cpu + it.temporal_cpu),
        }
    }
}

/// KiB as MiB.
pub(super) fn mib(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let kib = kib as f64;
    kib / 1_024.0
}

/// A number, or a dash where there is none.
pub(super) fn or_dash(value: f64, digits: usize) -> String {
    if value > 0.0 { format!("{value:.digits$}") } else { "–".to_owned() }
}

/// `12,345`.
pub(super) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |it| (it.0, format!(".{}", it.1)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_its_spread() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0]).show(1), "2.0 (1.0–3.0)");
        assert_eq!(Figure::of([4.0, 2.0]).median, 3.0);
        assert_eq!(Figure::of([5.0]).show(0), "5");
        assert_eq!(Figure::of([]), Figure::default());
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.5, 1), "999.5");
    }

    #[test]
    fn a_line_counts_records_by_the_clients_own_cpu_time() {
        let measure =
            Measure { wall: 2.0, cpu: 0.5, postgres_cpu: 1.0, temporal_cpu: 0.25, source_cpu: 9.0, peak_kib: 2_048 };
        let line = Line::of("x", true, true, 1_000, &[measure]);
        assert_eq!((line.per_cpu_second.median, line.per_second.median), (2_000.0, 500.0));
        assert_eq!((line.all_cpu.median, line.peak_mib.median), (1.75, 2.0));
    }
}
